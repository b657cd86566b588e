"""A file that is written once from front to back: each piece is hashed and written while the next one is computed.

Three threads share the work: the caller's fills a piece, one hashes it and one writes it. Who needs no digest saves the
hashing. Where the file system can,
whole pages go to the disk past the page cache (O_DIRECT), which spares a copy of everything and starts the disk at
once; the pages at the ends of pieces, and everything else, are written in the ordinary way. A piece starts at the
place within a page that it has in the file, so that both kinds need no copy.
"""

import errno
import hashlib
import mmap
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_PAGE = 4096  # alignment that every disk's O_DIRECT accepts
_PIECES = 4  # in flight between computing, hashing and writing
_WRITERS = 2  # pieces on their way to the disk at once: one alone leaves it idle between two


@dataclass(slots=True)
class _Piece:
    """A buffer that begins on a page, and what still reads from it."""

    buffer: mmap.mmap
    readers: tuple[Future[None], ...] = ()

    @classmethod
    def of(cls, size: int) -> Self:
        return cls(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))

    def wait(self) -> None:
        """Wait until it is hashed and written. Raises what went wrong there."""
        for reader in self.readers:
            reader.result()
        self.readers = ()


class OutputFile:
    """A file being written; a context manager. `advance` is told the bytes of each piece that was written.

    Take a `buffer`, fill it, `put` it, and so on; then `finish`. A file that needn't outlive a
    crash may `settle` instead.
    `direct`: whole pages may go past the page cache, for a file that nobody reads soon. `hashed`: for `finish` to tell.
    """

    def __init__(self, path: Path, advance: Callable[[int], None], *, direct: bool = True, hashed: bool = True) -> None:
        self._advance = advance
        self._digest = hashlib.sha256() if hashed else None
        self._flying: deque[_Piece] = deque()
        self._current: _Piece | None = None
        self._position = 0
        with ExitStack() as stack:
            self._file = stack.enter_context(path.open("wb", buffering=0)).fileno()
            self._direct = _open_direct(path) if direct else None
            if self._direct is not None:
                stack.callback(os.close, self._direct)
            self._hashing = ThreadPoolExecutor(1, "hash")
            self._writing = ThreadPoolExecutor(_WRITERS, "write")
            for pool in (self._hashing, self._writing):
                stack.callback(pool.shutdown, cancel_futures=True)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def buffer(self, size: int) -> memoryview:
        """Room for the next `size` bytes of the file."""
        start = self._position % _PAGE
        self._current = self._take(start + size)
        return memoryview(self._current.buffer)[start : start + size]

    def put(self, piece: memoryview) -> None:
        """Hash and write the buffer that was taken last."""
        taken = self._current
        assert taken is not None
        written = self._writing.submit(self._write, piece, self._position)
        taken.readers = (self._hashing.submit(self._digest.update, piece), written) if self._digest else (written,)
        self._flying.append(taken)
        self._position += len(piece)

    def rewrite_start(self, data: bytes) -> None:
        """Replace the first bytes, in a file that isn't hashed, by as many others."""
        if self._digest is not None:
            raise ValueError("what is hashed already can't be replaced")
        self.settle()
        _write_all(self._file, memoryview(data), 0)

    def settle(self) -> None:
        """Wait until everything is written."""
        for piece in self._flying:
            piece.wait()

    def sync(self) -> None:
        """Wait until everything is on the disk."""
        self.settle()
        os.fsync(self._file)

    def finish(self) -> str:
        """Wait until everything is on the disk; returns the sha256 of the file, which is hashed."""
        self.sync()
        if self._digest is None:
            raise ValueError("the file isn't hashed")
        return self._digest.hexdigest()

    def _take(self, size: int) -> _Piece:
        if len(self._flying) < _PIECES:
            return _Piece.of(size + _PAGE)
        oldest = self._flying.popleft()
        oldest.wait()
        return oldest if len(oldest.buffer) >= size else _Piece.of(size + _PAGE)

    def _write(self, piece: memoryview, position: int) -> None:
        """Write a piece: its whole pages directly, the rest through the page cache."""
        first = min(-position % _PAGE, len(piece))
        last = first + (len(piece) - first) // _PAGE * _PAGE
        _write_all(self._file, piece[:first], position)
        self._write_pages(piece[first:last], position + first)
        _write_all(self._file, piece[last:], position + last)
        self._advance(len(piece))

    def _write_pages(self, pages: memoryview, position: int) -> None:
        if self._direct is not None:
            try:
                _write_all(self._direct, pages, position)
                return
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._direct = None  # a file system that opens a file so and then wants another alignment
        _write_all(self._file, pages, position)


def _open_direct(path: Path) -> int | None:
    """A second descriptor of a file, past the page cache; None where there is no such thing."""
    flag = getattr(os, "O_DIRECT", 0)
    try:
        return os.open(path, os.O_WRONLY | flag) if flag else None
    except OSError:
        return None


def _write_all(descriptor: int, data: memoryview, position: int) -> None:
    while data:
        count = os.pwrite(descriptor, data, position)
        data, position = data[count:], position + count
