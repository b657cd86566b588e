"""One safetensors file of an adapter, wherever it is kept: its header, and the few numbers that a header lacks.

kohya's and diffusers' files keep a module's alpha as a tensor of one element, so their scaling stands among the
weights. Those bytes are read and no others. A pickle under the name of safetensors is refused by its first bytes.
"""

import math
import struct
from collections.abc import Iterable
from contextlib import AbstractContextManager
from math import prod
from typing import BinaryIO, Protocol

from registry.domain.errors import InvalidAdapter, InvalidFile, UnsupportedAdapter
from registry.domain.paths import pickled_as
from registry.domain.spec import TensorEntry
from registry.formats.safetensors import Header, Limits, read_header

CONVERT_PICKLE = (
    "loading one can run code. Where you trust it, load it with PeftModel.from_pretrained and save it again "
    "with save_pretrained, which writes adapter_model.safetensors"
)
_LAYOUTS = {"F64": "<d", "F32": "<f", "F16": "<e"}
_CHUNK = 1 << 20  # bytes


class OpenFile(Protocol):
    """Opens a file of the adapter, or `length` bytes of it from `start`: a folder's, or a blob store's."""

    def __call__(self, path: str, /, *, start: int, length: int) -> AbstractContextManager[BinaryIO]: ...


def take(stream: BinaryIO, count: int) -> bytes:
    """`count` bytes, or all that are left; a stream from the network gives fewer at a time than it is asked for."""
    data = bytearray()
    while len(data) < count and (part := stream.read(count - len(data))):
        data += part
    return bytes(data)


def read_file_header(path: str, size: int, open_file: OpenFile, *, limits: Limits | None = None) -> Header:
    """The header of a file of `size` bytes. Raises InvalidFile, and UnsupportedAdapter for a pickle."""
    limits = limits or Limits()
    with open_file(path, start=0, length=min(16, size)) as stream:
        head = take(stream, 16)
    if kind := pickled_as(head):
        raise UnsupportedAdapter(path, f"weights in a {kind}", CONVERT_PICKLE)
    length: int = struct.unpack("<Q", head[:8].ljust(8, b"\0"))[0]
    with open_file(path, start=0, length=min(size, 8 + min(length, limits.header))) as stream:
        return read_header(stream, size=size, path=path, limits=limits)


def read_scalars(path: str, tensors: Iterable[TensorEntry], open_file: OpenFile) -> dict[str, float]:
    """The values {name: number} of tensors of one element, in one pass that keeps nothing else.

    Raises InvalidAdapter for a tensor of another shape or dtype, or a value that is not finite.
    """
    wanted = sorted(tensors, key=lambda tensor: tensor.start)
    if not wanted:
        return {}
    first, last = wanted[0].start, wanted[-1].end
    values: dict[str, float] = {}
    with open_file(path, start=first, length=last - first) as stream:
        position = first
        for tensor in wanted:
            _skip(stream, tensor.start - position, path)
            values[tensor.name] = _decode(take(stream, tensor.end - tensor.start), tensor)
            position = tensor.end
    return values


def _skip(stream: BinaryIO, count: int, path: str) -> None:
    if count and stream.seekable():
        stream.seek(count, 1)
        return
    while count:
        data = stream.read(min(count, _CHUNK))
        if not data:
            raise InvalidFile(path, "end", "the file ends before its last tensor")
        count -= len(data)


def _decode(data: bytes, tensor: TensorEntry) -> float:
    if prod(tensor.shape) != 1 or tensor.dtype not in (*_LAYOUTS, "BF16"):
        raise InvalidAdapter(tensor.name, f"{list(tensor.shape)} of {tensor.dtype} is not one floating number")
    if len(data) != tensor.end - tensor.start:
        raise InvalidAdapter(tensor.name, "the file ends inside it")
    widened = ("<f", b"\0\0" + data) if tensor.dtype == "BF16" else (_LAYOUTS[tensor.dtype], data)
    value: float = struct.unpack(*widened)[0]
    if not math.isfinite(value):
        raise InvalidAdapter(tensor.name, "it is NaN or infinite")
    return value
