"""A stream that is checked against the digest of what it should be, when it has been read."""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from registry.domain.digest import CHUNK, read_chunks
from registry.domain.errors import DigestMismatch, Refused
from registry.domain.records import FileEntry

if TYPE_CHECKING:
    from typing_extensions import Buffer


@contextmanager
def verified(stream: BinaryIO, *, subject: str, file: FileEntry) -> Iterator["io.BufferedReader[Any]"]:
    """The stream, read to its end and compared with `file` when the block is left. Raises DigestMismatch.

    A refusal in the block is raised only if the bytes are the right ones: that they are damaged explains more.
    """
    hashing = _Hashing(stream)
    source = io.BufferedReader(hashing, CHUNK)
    try:
        yield source
    except Refused:
        _drain(source)
        hashing.verify(subject, file)
        raise
    _drain(source)
    hashing.verify(subject, file)


class _Hashing(io.RawIOBase):
    """A stream that knows the digest of what went through it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer)
        count = self._read_into(view)
        self._digest.update(view[:count])
        self._size += count
        return count

    def _read_into(self, view: memoryview) -> int:
        if isinstance(self._stream, io.BufferedIOBase):
            return self._stream.readinto(view)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)

    def verify(self, subject: str, file: FileEntry) -> None:
        """Compare what went through with what should have. Raises DigestMismatch."""
        found = self._digest.hexdigest()
        if (found, self._size) != (file.sha256, file.size):
            raise DigestMismatch(f"{subject} {file.path}", file.sha256, file.size, found, self._size)


def _drain(stream: BinaryIO) -> None:
    for _ in read_chunks(stream):
        pass
