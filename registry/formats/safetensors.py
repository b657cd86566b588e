"""safetensors: a bounded reader of untrusted headers, and a streaming writer.

    8 bytes   length of the header, little endian
    header    a JSON object {name: {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {text: text}}
    data      the tensors' bytes, back to back; offsets count from here

The reader never touches the data. It is stricter than the public one (0.8.0), so that every file it accepts reads
the same everywhere: no duplicate keys, holes, overlaps, unaligned or empty tensors, nor names that hide something.
The writer's layout is canonical: tensors by element size, largest first, then by name, as the public writer does, so
that each is aligned to its element; the header is compact JSON in that order, padded with blanks to 8 bytes.

Source: https://github.com/huggingface/safetensors, section "Format".
"""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, BinaryIO, NamedTuple, NoReturn

from registry.domain.errors import InvalidFile
from registry.domain.spec import TensorEntry
from registry.formats.json_document import unique

# Bytes of an element. Sub-byte kinds (F4, F6) are left out: no adapter is stored in them.
DTYPE_SIZES: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I8", "U8", "BOOL"), 1),
}
_METADATA = "__metadata__"
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_LARGEST = 1 << 63


@dataclass(frozen=True, slots=True)
class Limits:
    """`header` in bytes, `name` in characters. `aligned` asks for tensors aligned to their element's size."""

    header: int = 32 << 20
    tensors: int = 200_000
    name: int = 512
    dimensions: int = 5
    aligned: bool = True


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. `tensors` are in the order of their bytes; `data_start` is where those begin."""

    tensors: tuple[TensorEntry, ...]
    metadata: dict[str, str]
    data_start: int


class _RawEntry(NamedTuple):
    """An entry as it stands in the header, before anything but its keys is known to be right."""

    dtype: Any
    shape: Any
    offsets: Any


def read_header(stream: BinaryIO, *, size: int, path: str, limits: Limits | None = None) -> Header:
    """Read the header of a file of `size` bytes from a stream that stands at its beginning.

    Time and memory are linear in the header. Raises InvalidFile with the place and the rule that is broken.
    """
    limits = limits or Limits()
    text, data_start = _read_text(stream, size, path=path, limits=limits)
    document = _parse(text, path, limits)
    metadata = _check_metadata(document.pop(_METADATA, None), path)
    if len(document) > limits.tensors:
        raise InvalidFile(path, "header", f"{len(document)} tensors; {limits.tensors} are allowed")
    tensors = [_entry(name, raw, data_start, path=path, limits=limits) for name, raw in document.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end, tensor.name))
    _check_layout(tensors, start=data_start, end=size, path=path)
    return Header(tuple(tensors), metadata, data_start)


def _read_text(stream: BinaryIO, size: int, *, path: str, limits: Limits) -> tuple[str, int]:
    head = _read_exactly(stream, 8, path)
    length: int = struct.unpack("<Q", head)[0]
    if length > limits.header:
        raise InvalidFile(path, "header length", f"{length} bytes; {limits.header} are allowed")
    if 8 + length > size:
        raise InvalidFile(path, "header length", f"{length} bytes, in a file of {size}")
    data = _read_exactly(stream, length, path)
    try:
        return data.decode(), 8 + length
    except UnicodeDecodeError as error:
        raise InvalidFile(path, f"byte {8 + error.start}", "the header is not UTF-8") from None


def _read_exactly(stream: BinaryIO, length: int, path: str) -> bytes:
    parts: list[bytes] = []
    missing = length
    while missing:
        data = stream.read(missing)
        if not data:
            raise InvalidFile(path, f"byte {length - missing}", "the file ends inside its header")
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def _parse(text: str, path: str, limits: Limits) -> dict[str, Any]:
    # An honest entry has at most 4 + dimensions commas; values are at least as many bytes of memory as characters
    # of text, and short ones many more, so their number is bounded before any is built.
    if text.count(",") > limits.tensors * (5 + limits.dimensions):
        raise InvalidFile(path, "header", f"more values than {limits.tensors} tensors can have")
    if not text.startswith("{"):
        raise InvalidFile(path, "byte 8", "the header is not a JSON object")
    # Python reads -0 as 0, and the public reader refuses it: the slow way only where there may be one.
    parse_int = _natural if "-0" in text else None
    try:
        document = json.loads(
            text, object_pairs_hook=_compact, parse_int=parse_int, parse_float=_no_number, parse_constant=_no_number
        )
    except RecursionError:
        raise InvalidFile(path, "header", "it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise InvalidFile(path, f"character {error.pos} of the header", f"not JSON: {error.msg}") from None
    except ValueError as error:
        raise InvalidFile(path, "header", str(error)) from None
    if not isinstance(document, dict):
        raise InvalidFile(path, "header", "the top level is not a table of tensors")
    return document


def _compact(pairs: list[tuple[str, Any]]) -> Any:
    table = unique(pairs)
    if len(table) == len(_ENTRY_KEYS) and table.keys() == _ENTRY_KEYS:
        return _RawEntry(table["dtype"], table["shape"], table["data_offsets"])
    return table


def _natural(digits: str) -> int:
    if digits == "-0":
        raise ValueError("the number -0 is out of range")
    return int(digits)


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text[:40]} is not a whole number")


def _check_metadata(metadata: Any, path: str) -> dict[str, str]:
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise InvalidFile(path, _METADATA, "it is not a table from text to text")
    try:
        "".join((*metadata, *metadata.values())).encode()
    except UnicodeEncodeError:
        raise InvalidFile(path, _METADATA, "a text holds half a surrogate pair") from None
    return metadata


def check_name(name: str, path: str, limits: Limits) -> None:
    """Raises InvalidFile for a tensor name that is empty, too long, or hides something from whoever reads it."""
    if not name:
        raise InvalidFile(path, "tensor ''", "its name is empty")
    if len(name) > limits.name:
        raise InvalidFile(path, f"tensor {name[:80]!r}…", f"its name is longer than {limits.name} characters")
    if not name.isprintable():
        raise InvalidFile(path, f"tensor {name!a}", "its name holds a control, bidirectional or unprintable character")
    if ".." in name or "\\" in name or name.startswith("/"):
        raise InvalidFile(path, f"tensor {name!r}", "its name looks like a path out of its folder")


def _entry(name: str, raw: Any, data_start: int, *, path: str, limits: Limits) -> TensorEntry:
    check_name(name, path, limits)
    if type(raw) is not _RawEntry:
        raise _wrong(path, name, "its entry is not exactly dtype, shape and data_offsets")
    dtype, shape, offsets = raw
    itemsize = DTYPE_SIZES.get(dtype) if type(dtype) is str else None
    if itemsize is None:
        raise _wrong(path, name, f"its dtype {str(dtype)[:40]!r} is none of {', '.join(DTYPE_SIZES)}")
    size = _elements(shape, path, name=name, limits=limits) * itemsize
    if not _is_naturals(offsets) or len(offsets) != 2:
        raise _wrong(path, name, "its data_offsets are not two whole numbers")
    start, end = data_start + offsets[0], data_start + offsets[1]
    if end - start != size:
        raise _wrong(path, name, f"{shape} of {dtype} are {size} bytes, not {end - start}")
    if start % itemsize and limits.aligned:
        raise _wrong(path, name, f"it begins at byte {start}, which {dtype} is not aligned to")
    return TensorEntry(name, dtype, _intern_shape(tuple(shape)), start, end)


def _wrong(path: str, name: str, reason: str) -> InvalidFile:
    return InvalidFile(path, f"tensor {name!r}", reason)


def _is_naturals(values: Any) -> bool:
    # The type itself: True is an int too.
    return type(values) is list and [*map(type, values)].count(int) == len(values) and min(values, default=0) >= 0


def _elements(shape: Any, path: str, *, name: str, limits: Limits) -> int:
    if not _is_naturals(shape):
        raise _wrong(path, name, "its shape is not a list of whole numbers")
    if len(shape) > limits.dimensions:
        raise _wrong(path, name, f"it has {len(shape)} dimensions; {limits.dimensions} are allowed")
    elements: int = prod(shape)
    if not elements:
        raise _wrong(path, name, f"its shape {shape} holds no element")
    if elements >= _LARGEST:
        raise _wrong(path, name, "its shape is impossibly large")
    return elements


@lru_cache(maxsize=1024)
def _intern_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape


def _check_layout(tensors: Sequence[TensorEntry], *, start: int, end: int, path: str) -> None:
    position = start
    for tensor in tensors:
        where = f"tensor {tensor.name!r}"
        if tensor.end > end:
            raise InvalidFile(path, where, f"it ends at byte {tensor.end} of a file of {end}")
        if tensor.start < position:
            raise InvalidFile(path, where, f"it overlaps the tensor before it by {position - tensor.start} bytes")
        if tensor.start > position:
            raise InvalidFile(path, where, f"{tensor.start - position} bytes before it belong to no tensor")
        position = tensor.end
    if position != end:
        raise InvalidFile(path, f"byte {position}", f"{end - position} bytes follow the last tensor")


# -- writing ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TensorOutline:
    """What a header says of a tensor, but for its place."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape) * DTYPE_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class TensorSource(TensorOutline):
    """A tensor to write. `chunks` gives its bytes, little endian and in row order, once, when its turn comes."""

    chunks: Callable[[], Iterable[bytes]]


def write(stream: BinaryIO, tensors: Iterable[TensorSource], metadata: Mapping[str, str] | None = None) -> int:
    """Write a whole file in the canonical layout and return its size in bytes.

    Raises InvalidFile if a source gives more or fewer bytes than its shape has, or has a name that we refuse to read.
    """
    ordered = sorted(tensors, key=lambda tensor: (-DTYPE_SIZES[tensor.dtype], tensor.name))
    header = encode_header(ordered, metadata or {})
    stream.write(header)
    position = len(header)
    for tensor in ordered:
        position += _write_tensor(stream, tensor)
    return position


def encode_header(tensors: Sequence[TensorOutline], metadata: Mapping[str, str], room: int = 0) -> bytes:
    """A file up to its data, of `room` bytes at least: its length and the header of tensors in their order.

    Raises InvalidFile for a name that comes twice, or that we refuse to read.
    """
    document: dict[str, Any] = {_METADATA: dict(sorted(metadata.items()))} if metadata else {}
    limits, position = Limits(), 0
    for tensor in tensors:
        check_name(tensor.name, "the file to write", limits)
        if tensor.name in document:
            raise InvalidFile("the file to write", f"tensor {tensor.name!r}", "it comes twice")
        offsets = [position, position + tensor.size]
        document[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        position = offsets[1]
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(room - 8)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _write_tensor(stream: BinaryIO, tensor: TensorSource) -> int:
    written = 0
    for chunk in tensor.chunks():
        written += len(chunk)
        if written > tensor.size:
            break
        stream.write(chunk)
    if written != tensor.size:
        raise InvalidFile("the file to write", f"tensor {tensor.name!r}", f"{written} bytes came, not {tensor.size}")
    return written
