"""What every store checks by itself: names that become paths or keys, ranges, and bytes against their digest.

Digests and upload ids come from outside. They are checked here before they touch a path, a key or a request.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator

from registry.domain.errors import DigestMismatch, WrongUsage

Watch = Callable[[int], None]  # bytes read by now; all of them only once they are verified. What it raises ends it.

SHA256 = re.compile(r"[0-9a-f]{64}")
SHA256_PREFIX = re.compile(r"[0-9a-f]{0,64}")
UPLOAD_ID = re.compile(r"[a-z0-9-]{1,64}")


def check_sha256(sha256: str) -> None:
    """Raises WrongUsage unless the text is 64 lowercase hex digits."""
    if not SHA256.fullmatch(sha256):
        raise WrongUsage(f"{sha256!r} is not a sha256: 64 lowercase hex digits")


def check_prefix(prefix: str) -> None:
    """Raises WrongUsage unless a sha256 can begin so."""
    if not SHA256_PREFIX.fullmatch(prefix):
        raise WrongUsage(f"{prefix!r} is not the beginning of a sha256: at most 64 lowercase hex digits")


def check_upload_id(upload_id: str) -> None:
    """Raises WrongUsage unless the text is an upload id."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise WrongUsage(f"{upload_id!r} is not an upload id: 1 to 64 of a-z, 0-9 and '-'")


def check_range(start: int, length: int | None) -> None:
    """Raises WrongUsage for a range that counts backwards."""
    if start < 0 or (length is not None and length < 0):
        raise WrongUsage(f"bytes from {start}, {length} of them, is not a range: both count from 0 up")


def new_upload_id(purpose: str) -> str:
    """An upload id that nobody else has or can guess."""
    return f"{purpose}-{secrets.token_hex(16)}"


def unwatched(_count: int) -> None:
    """Progress that nobody wants to know."""


def verified(
    chunks: Iterable[bytes], *, sha256: str, size: int, subject: str, watch: Watch = unwatched
) -> Iterator[bytes]:
    """Pass chunks on; a store that has consumed them all knows that they were `size` bytes of digest `sha256`.

    Raises DigestMismatch after the last chunk, or at the first byte beyond `size`.
    """
    digest, found = hashlib.sha256(), 0
    for chunk in chunks:
        piece = bytes(chunk)  # no copy of bytes; a caller's reused buffer must not change under the writer
        digest.update(piece)
        found += len(piece)
        if found > size:
            break
        if found < size:
            watch(found)
        yield piece
    if found != size or digest.hexdigest() != sha256:
        raise DigestMismatch(
            subject=subject, expected=sha256, expected_size=size, found=digest.hexdigest(), found_size=found
        )
    watch(size)


class Hashed:
    """Passes chunks on once; afterwards `sha256` and `size` say what they were."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            piece = bytes(chunk)
            self._digest.update(piece)
            self.size += len(piece)
            yield piece

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def exhaust(chunks: Iterable[bytes]) -> int:
    """Consume chunks, keep nothing; returns their size in bytes."""
    return sum(len(chunk) for chunk in chunks)
