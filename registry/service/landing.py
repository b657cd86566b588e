"""Where a pull's files come in: a hidden folder beside the target, in which the next pull finds what a killed one left.

    .<name>.pull/<sha256>     a file of that content, whole and verified
    .<name>.pull/…part        as much of one as has come; its own digest decides whether that is worth anything

One pull at a time has it. Another one to the same target works in a folder of its own, so that neither disturbs the
other, and finds nothing there.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from registry.domain.digest import read_chunks
from registry.domain.errors import Absent, DigestMismatch, Refused

Moved = Callable[[int], None]  # bytes that came since the last call; below zero what has to come again


@contextmanager
def landing(to: Path) -> Iterator[Path]:
    """The folder where files for `to` come in, for the caller alone.

    What is there after a failure is kept, for the next attempt to go on with, unless that would be refused again.
    """
    folder = to.parent / f".{to.name}.pull"
    lock = _lock(folder)
    if lock is None:
        with TemporaryDirectory(prefix=f".{to.name}.", dir=to.parent) as private:
            yield Path(private)
        return
    try:
        yield folder
    except BaseException as error:
        if isinstance(error, Refused | Absent):
            shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # there is something in it
            folder.rmdir()
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """A descriptor that locks the folder while it is open; None if somebody else has it, or it isn't ours."""
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone again, or a link that somebody laid there
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        status = os.fstat(descriptor)
        if status.st_uid == os.geteuid() and os.path.samestat(status, folder.lstat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


class Growing:
    """A file that grows at its end; size and digest are of what is in it, earlier bytes included."""

    def __init__(self, stream: BinaryIO, progress: Moved) -> None:
        self._stream = stream
        self._progress = progress
        self._digest = hashlib.sha256()
        self.size = 0
        stream.seek(0)
        for chunk in read_chunks(stream):
            self._note(chunk)

    def write(self, chunk: bytes) -> None:
        """Add bytes at the end."""
        self._stream.write(chunk)
        self._note(chunk)

    def start_over(self) -> None:
        """Drop everything."""
        self._progress(-self.size)
        self._stream.seek(0)
        self._stream.truncate()
        self._digest = hashlib.sha256()
        self.size = 0

    def finish(self, sha256: str, size: int, *, subject: str, rest: Callable[[], int]) -> int:
        """Let `rest` bring what is missing, and everything if what was there was wrong; returns the bytes that came.

        `rest` writes on from the end up to `size` bytes, and returns how many came. Raises DigestMismatch.
        """
        if self.size > size:
            self.start_over()
        moved = rest()
        if self._found != (sha256, size) and moved < size:
            self.start_over()
            moved += rest()
        if self._found != (sha256, size):
            raise DigestMismatch(subject, sha256, size, *self._found)
        return moved

    @property
    def _found(self) -> tuple[str, int]:
        return self._digest.hexdigest(), self.size

    def _note(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self.size += len(chunk)
        self._progress(len(chunk))
