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

from cli.remote.uploads import Moved, unwatched
from registry.domain.digest import read_chunks
from registry.domain.errors import DigestMismatch, ServerFailure, TargetTaken

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
        fetch = _Fetch(connection, url, target, size=size, progress=progress)
        moved = fetch.rest()
        if fetch.found != (sha256, size) and moved < size:  # what an earlier attempt left was wrong
            moved += fetch.again()
        if fetch.found != (sha256, size):
            partial.unlink()
            raise DigestMismatch(to.name, sha256, size, *fetch.found)
        target.flush()
        os.fsync(target.fileno())
        partial.replace(to)
    return moved


class _Fetch:
    """A file that grows at its end until it has `size` bytes."""

    def __init__(self, connection: "Connection", url: str, target: BinaryIO, *, size: int, progress: Moved) -> None:
        self._connection = connection
        self._url = url
        self._target = target
        self._size = size
        self._progress = progress
        self._digest = hashlib.sha256()
        self._have = 0
        self._moved = 0
        self._other = False  # whether the server has a file of another size there
        for chunk in read_chunks(target):
            self._note(chunk)

    @property
    def found(self) -> tuple[str, int]:
        """Digest and size of what is there."""
        return self._digest.hexdigest(), self._have

    def rest(self) -> int:
        """Fetch what is missing; returns its bytes."""
        if self._have > self._size:
            self._start_over()
        moved, fruitless = self._moved, 0
        while self._have < self._size and not self._other:
            before = self._moved
            failure = self._read_on()
            fruitless = 0 if self._moved > before else fruitless + 1
            if fruitless >= ATTEMPTS:
                raise failure or ServerFailure("it sends less than the file has", self._connection.url)
            time.sleep(_WAIT * 2**fruitless if fruitless else 0)
        return self._moved - moved

    def again(self) -> int:
        """Fetch everything; returns its bytes."""
        self._start_over()
        return self.rest()

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
        wanted = {"Range": f"bytes={self._have}-"} if self._have else {}
        with self._connection.stream(self._url, headers=wanted) as response:
            if self._have and not response.headers.get("Content-Range", "").startswith(f"bytes {self._have}-"):
                self._start_over()  # a server that ignores the range begins at the beginning
            self._other = response.headers.get("Content-Length") not in (None, str(self._size - self._have))
            for chunk in response.stream(_CHUNK):
                self._target.write(chunk)
                self._note(chunk)
                self._moved += len(chunk)
                if self._have > self._size:
                    self._other = True
                    break

    def _note(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._have += len(chunk)
        self._progress(len(chunk))

    def _start_over(self) -> None:
        self._progress(-self._have)
        self._target.seek(0)
        self._target.truncate()
        self._digest = hashlib.sha256()
        self._have = 0
        self._other = False


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
