"""Files from a server: continued where an earlier attempt was cut off, verified, and in place at once or not at all.

What has come so far lies beside the target in a hidden file that is named by its digest, so that the next attempt
finds it, whoever was killed in between.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from urllib3.exceptions import HTTPError

from cli.remote.uploads import unwatched
from registry.domain.errors import DigestMismatch, ServerFailure, TargetTaken
from registry.service.landing import Growing, Moved

if TYPE_CHECKING:
    from cli.remote.connection import Connection

ATTEMPTS = 6  # in a row without a byte
_CHUNK = 256 << 10  # bytes
_WAIT = 0.2  # seconds, doubled each time


def download_file(
    connection: "Connection", url: str, to: Path, *, sha256: str, size: int, progress: Moved = unwatched
) -> int:
    """Put the file at a URL (or a path of the server) at `to`; returns how many bytes had to move.

    Raises DigestMismatch for bytes that are not `size` of this digest, and then keeps none; TargetTaken while somebody
    else fetches the same file; ServerFailure, and what the server answers. `to` is only touched when all is there.
    """
    partial = to.with_name(f".{hashlib.sha256(f'{sha256} {to.name}'.encode()).hexdigest()}.part")
    with _alone(partial) as target:
        growing = Growing(target, progress)
        fetch = _Fetch(connection, url, growing, size)
        try:
            moved = growing.finish(sha256, size, subject=to.name, rest=fetch.rest)
        except DigestMismatch:
            partial.unlink()
            raise
        target.flush()
        os.fsync(target.fileno())
        partial.replace(to)
    return moved


class _Fetch:
    """A file that is read on until there are `size` bytes of it."""

    def __init__(self, connection: "Connection", url: str, growing: Growing, size: int) -> None:
        self._connection = connection
        self._url = url
        self._growing = growing
        self._size = size
        self._moved = 0
        self._other = False  # whether the server has a file of another size there

    def rest(self) -> int:
        """Fetch what is missing; returns its bytes."""
        moved, fruitless, self._other = self._moved, 0, False
        while self._growing.size < self._size and not self._other:
            before = self._moved
            failure = self._read_on()
            fruitless = 0 if self._moved > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise failure or ServerFailure("it sends less than the file has", self._connection.url)
            time.sleep(_WAIT * 2**fruitless if fruitless else 0)
        return self._moved - moved

    def _read_on(self) -> ServerFailure | None:
        """Read until the answer ends; how the connection broke, if it did after something had come."""
        try:
            self._read()
        except HTTPError as error:
            return ServerFailure(f"its connections keep breaking off: {type(error).__name__}", self._connection.url)
        except ServerFailure as error:
            if not self._moved:
                raise
            return error
        return None

    def _read(self) -> None:
        have = self._growing.size
        wanted = {"Range": f"bytes={have}-"} if have else {}
        with self._connection.stream(self._url, headers=wanted) as response:
            if have and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                self._growing.start_over()  # a server that ignores the range begins at the beginning
            left = self._size - self._growing.size
            self._other = response.headers.get("Content-Length") not in (None, str(left))
            for chunk in response.stream(_CHUNK):
                self._growing.write(chunk)
                self._moved += len(chunk)
                if self._growing.size > self._size:
                    self._other = True
                    break


@contextmanager
def _alone(partial: Path) -> Iterator[BinaryIO]:
    """The hidden file, opened for this process alone. Raises TargetTaken."""
    partial.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as target:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = os.path.samestat(os.fstat(descriptor), partial.lstat())  # nobody finished it before we had it
        except (BlockingIOError, FileNotFoundError):
            alone = False
        if not alone:
            raise TargetTaken(str(partial))
        yield target
