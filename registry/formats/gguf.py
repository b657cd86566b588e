"""GGUF files, as bases: the architecture and the tensor table. The weights stay untouched.

    "GGUF", version u32, tensors u64, keys u64
    key      name, type u32, value          a value may be an array: type u32, count u64, values
    tensor   name, dimensions u32, each u64 (innermost first), type u32, offset u64
    padding to `general.alignment`, then the data, from which offsets count

Text is a length u64 and UTF-8; all numbers are little endian. Read here rather than with the `gguf` package, which
takes six seconds for the vocabulary of a small model that we only skip; the tests compare the two.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, ggml-common.h for the block sizes.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from registry.domain.errors import InvalidFile

# (name, type, shape with the outermost dimension first, first byte, bytes)
GgufRow = tuple[str, str, tuple[int, ...], int, int]

# ggml type -> (name, elements of a block, bytes of a block)
TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 40),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
}
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9

_MAX_TEXT = 16 << 20
_MAX_KEYS = 65_536
_MAX_TENSORS = 1_000_000
_MAX_DIMENSIONS = 4
_MAX_DEPTH = 4  # arrays of arrays
_ALIGNMENT = 32


def read_gguf(path: Path) -> tuple[str | None, list[GgufRow]]:
    """general.architecture, and a row for each tensor. Raises InvalidFile naming the place that is wrong."""
    with path.open("rb") as stream:
        reader = _Reader(stream, str(path), path.stat().st_size)
        tensors, keys = reader.head()
        values = dict(reader.key() for _ in range(keys))
        if values.get("split.count", 1) not in (0, 1):
            raise InvalidFile(
                str(path), "split.count", "it is one part of several; `llama-gguf-split --merge` joins them"
            )
        rows = [reader.tensor() for _ in range(tensors)]
        start = _aligned(stream.tell(), values.get("general.alignment", _ALIGNMENT), path)
    placed = [(name, kind, shape, start + offset, size) for name, kind, shape, offset, size in rows]
    _check_layout(placed, path)
    architecture = values.get("general.architecture")
    return architecture if isinstance(architecture, str) and architecture.isprintable() else None, placed


def read_gguf_keys(path: Path) -> dict[str, object]:
    """The keys of a file with their values, arrays as None. Raises InvalidFile naming the place that is wrong."""
    with path.open("rb") as stream:
        reader = _Reader(stream, str(path), path.stat().st_size)
        _, keys = reader.head()
        return dict(reader.key() for _ in range(keys))


def _aligned(position: int, alignment: object, path: Path) -> int:
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise InvalidFile(str(path), "general.alignment", f"{str(alignment)[:40]} is not a possible alignment")
    return -(-position // alignment) * alignment


def _check_layout(rows: list[GgufRow], path: Path) -> None:
    if len({name for name, *_ in rows}) < len(rows):
        raise InvalidFile(str(path), "tensors", "a name comes twice")
    size, position = path.stat().st_size, 0
    for name, _, _, start, length in sorted(rows, key=lambda row: row[3]):
        if start < position:
            raise InvalidFile(str(path), f"tensor {name!r}", "it overlaps the tensor before it")
        position = start + length
        if position > size:
            raise InvalidFile(str(path), f"tensor {name!r}", f"it ends at byte {position} of a file of {size}")


@dataclass(slots=True)
class _Reader:
    """The header, front to back; every length is checked against the file before it is believed."""

    stream: BinaryIO
    path: str
    size: int

    def head(self) -> tuple[int, int]:
        """Number of tensors and of keys."""
        magic, version, tensors, keys = self._unpack("<4sIQQ")
        if magic != b"GGUF" or version not in (2, 3):
            raise self._wrong("magic", "only little-endian GGUF of version 2 or 3 is read")
        if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
            raise self._wrong("header", f"{tensors} tensors and {keys} keys are too many")
        return tensors, keys

    def key(self) -> tuple[str, object]:
        """A key and its value; arrays are skipped and read as None."""
        name = self._text()
        (kind,) = self._unpack("<I")
        return name, self._value(kind, 0)

    def tensor(self) -> GgufRow:
        name = self._text()
        if not name or not name.isprintable():
            raise self._wrong(f"tensor {name!a}", "its name is empty or holds an unprintable character")
        (count,) = self._unpack("<I")
        if not 0 < count <= _MAX_DIMENSIONS:
            raise self._wrong(f"tensor {name!r}", f"it has {count} dimensions")
        *shape, kind, offset = self._unpack(f"<{count}QIQ")
        if kind not in TYPES:
            raise self._wrong(f"tensor {name!r}", f"its type {kind} is unknown")
        label, elements, size = TYPES[kind]
        if 0 in shape or shape[0] % elements:
            raise self._wrong(f"tensor {name!r}", f"its shape {shape} is no multiple of a block of {label}")
        return name, label, tuple(reversed(shape)), offset, prod(shape) // elements * size

    def _value(self, kind: int, depth: int) -> object:
        if kind in _SCALARS:
            return self._unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY and depth < _MAX_DEPTH:
            self._skip_array(depth)
            return None
        raise self._wrong("key", f"a value of type {kind}")

    def _skip_array(self, depth: int) -> None:
        kind, count = self._unpack("<IQ")
        width = struct.calcsize(_SCALARS[kind]) if kind in _SCALARS else 8  # a text or an array is at least its length
        if count * width > self.size - self.stream.tell():
            raise self._wrong("key", f"an array of {count} values, in a file of {self.size} bytes")
        if kind in _SCALARS:
            self.stream.seek(count * width, 1)
            return
        for _ in range(count):
            if kind == _STRING:
                self._take(self._length())
            else:
                self._value(kind, depth + 1)

    def _text(self) -> str:
        data = self._take(self._length())
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._wrong("text", "it is not UTF-8") from None

    def _length(self) -> int:
        (length,) = self._unpack("<Q")
        if length > _MAX_TEXT:
            raise self._wrong("text", f"{length} bytes; {_MAX_TEXT} are allowed")
        return int(length)

    def _take(self, length: int) -> bytes:
        data = self.stream.read(length)
        if len(data) < length:
            raise self._wrong("end", "the file ends inside its header")
        return data

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _wrong(self, where: str, reason: str) -> InvalidFile:
        return InvalidFile(self.path, f"{where}, before byte {self.stream.tell()}", reason)
