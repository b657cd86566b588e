"""What the folder store asks of a disk: files written so that they survive a crash, and bounded reads of them."""

import io
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from registry.domain.errors import StorageFailure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FOLDER_MODE = 0o700
FILE_MODE = 0o600
SYNC_EVERY = 16 << 20  # bytes; a 100 MB put takes 0.7 of the time that it takes with one sync at the end


@contextmanager
def storage_failure(doing: str, subject: object, but: type[OSError] | tuple[()] = ()) -> Iterator[None]:
    """Raise the operating system's errors as StorageFailure, `but` excepted."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise StorageFailure(f"{doing} {subject}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Put a folder's names on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, private to the owner, so that they survive a crash."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)


def write_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Write a new file and sync it; returns its size in bytes. What the chunks raise passes through."""
    with storage_failure("writing", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="blob-sync") as thread:
            written = _Written(descriptor, thread)
            for chunk in chunks:
                with storage_failure("writing", path):
                    written.add(chunk)
        with storage_failure("writing", path):
            written.finish()
        return written.size
    finally:
        os.close(descriptor)


class _Written:
    """Bytes appended to a file. A second thread syncs them early, so that the last sync finds little left."""

    def __init__(self, descriptor: int, thread: ThreadPoolExecutor) -> None:
        self.size = 0
        self._descriptor = descriptor
        self._thread = thread
        self._syncing: Future[None] | None = None
        self._unsynced = 0

    def add(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self.size += len(chunk)
        self._unsynced += len(chunk)
        if self._unsynced >= SYNC_EVERY and (self._syncing is None or self._syncing.done()):
            self._settle()
            self._syncing = self._thread.submit(os.fdatasync, self._descriptor)
            self._unsynced = 0

    def finish(self) -> None:
        self._settle()
        os.fsync(self._descriptor)

    def _settle(self) -> None:
        """Raise what a sync found: the kernel says it once only."""
        if self._syncing:
            self._syncing.result()


class Span(io.RawIOBase):
    """The next `length` bytes of an open file, which is closed with it."""

    def __init__(self, stream: io.BufferedReader, length: int) -> None:
        self._stream = stream
        self._left = length

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        count = self._stream.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
