"""A xorb as a stream of plain chunks, which are what its name says."""

from array import array
from collections.abc import Iterator
from typing import BinaryIO

from registry.domain.errors import InvalidFile
from registry.xet.chunks import HEADER, plain, read_header
from registry.xet.hashing import Leaf, chunk_hash, name_of, xorb_hash

MOST_CHUNKS = 8 << 10
MOST_BYTES = 64 << 20  # plain
MOST_SENT = MOST_BYTES + (1 << 20)  # bytes of a xorb as it is sent: plain chunks, their headers, and a footer
_FOOTER = b"XETBLOB"  # clients of before 2026 send one; it says again what the chunks say


class XorbReader:
    """Passes a xorb's plain chunks on once; afterwards `ends` says where each of them ends.

    Raises InvalidFile for what breaks the format, and after the last chunk when they aren't those of its name.
    """

    def __init__(self, stream: BinaryIO, name: str) -> None:
        self._stream = stream
        self._name = name
        self._path = f"xorb {name}"
        self.ends = array("I")

    @property
    def size(self) -> int:
        """Plain bytes so far."""
        return self.ends[-1] if self.ends else 0

    def __iter__(self) -> Iterator[bytes]:
        leaves: list[Leaf] = []
        while (data := self._next()) is not None:
            leaves.append((chunk_hash(data), len(data)))
            yield data
        if not leaves:
            raise InvalidFile(self._path, "byte 0", "it holds no chunk")
        found = name_of(xorb_hash(leaves))
        if found != self._name:
            raise InvalidFile(self._path, "its name", f"its chunks are those of {found}")

    def _next(self) -> bytes | None:
        where = f"chunk {len(self.ends)}"
        head = self._stream.read(HEADER)
        if not head or head.startswith(_FOOTER):
            return None
        if len(head) < HEADER:
            raise InvalidFile(self._path, where, "the xorb ends inside its header")
        header = read_header(head, path=self._path, where=where)
        if len(self.ends) == MOST_CHUNKS:
            raise InvalidFile(self._path, where, f"a xorb has at most {MOST_CHUNKS} chunks")
        if self.size + header.size > MOST_BYTES:
            raise InvalidFile(self._path, where, f"a xorb has at most {MOST_BYTES} bytes")
        data = self._stream.read(header.length)
        if len(data) < header.length:
            raise InvalidFile(self._path, where, "the xorb ends inside it")
        self.ends.append(self.size + header.size)
        return plain(header, data, path=self._path, where=where)
