"""One chunk of a xorb: eight bytes of header, and its data, plain or compressed.

    1 byte    version, 0
    3 bytes   length of the data, little endian
    1 byte    scheme: 0 plain, 1 an LZ4 frame, 2 an LZ4 frame of the bytes grouped by their place in words of four
    3 bytes   length of the plain data

Source: https://huggingface.co/docs/xet/xorb, section "Chunk".
"""

from dataclasses import dataclass

import lz4.frame

from registry.domain.errors import InvalidFile

HEADER = 8  # bytes
LONGEST = 128 << 10  # bytes of a chunk, plain
_LONGEST_DATA = 2 * LONGEST  # what is said to be compressed may be longer
_PLAIN, _LZ4, _GROUPED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class ChunkHeader:
    """What a chunk says of itself, within bounds. `length` bytes of data follow, which are `size` plain ones."""

    scheme: int
    length: int
    size: int


def read_header(data: bytes, *, path: str, where: str) -> ChunkHeader:
    """A chunk's header from its eight bytes. Raises InvalidFile."""
    length, size = int.from_bytes(data[1:4], "little"), int.from_bytes(data[5:8], "little")
    if data[0] != 0:
        raise InvalidFile(path, where, f"version {data[0]} of chunks is unknown")
    if data[4] not in (_PLAIN, _LZ4, _GROUPED):
        raise InvalidFile(path, where, f"compression {data[4]} is unknown")
    if not 1 <= size <= LONGEST:
        raise InvalidFile(path, where, f"a chunk has 1 to {LONGEST} bytes, not {size}")
    if not 1 <= length <= _LONGEST_DATA or (data[4] == _PLAIN and length != size):
        raise InvalidFile(path, where, f"{length} bytes of data can't be {size} plain ones")
    return ChunkHeader(data[4], length, size)


def plain(header: ChunkHeader, data: bytes, *, path: str, where: str) -> bytes:
    """A chunk's plain bytes: as many as its header says, and never more in memory. Raises InvalidFile."""
    if header.scheme == _PLAIN:
        return data
    inflated = _inflate(data, header.size, path=path, where=where)
    return _ungrouped(inflated) if header.scheme == _GROUPED else inflated


def _inflate(data: bytes, size: int, *, path: str, where: str) -> bytes:
    frame = lz4.frame.LZ4FrameDecompressor()
    try:
        # One more than there should be: at the right length, the frame must have ended.
        inflated: bytes = frame.decompress(data, max_length=size + 1)
    except (RuntimeError, MemoryError, EOFError, ValueError):
        raise InvalidFile(path, where, "it is not an LZ4 frame") from None
    if len(inflated) != size or not frame.eof or frame.unused_data:
        raise InvalidFile(path, where, f"its LZ4 frame doesn't hold exactly {size} bytes")
    return inflated


def _ungrouped(data: bytes) -> bytes:
    """Bytes in their order, from all the first ones of every four, then all the second ones, and so on."""
    ordered, start = bytearray(len(data)), 0
    for place in range(4):
        count = len(range(place, len(data), 4))
        ordered[place::4] = data[start : start + count]
        start += count
    return bytes(ordered)
