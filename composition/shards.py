"""Safetensors files of any size, read in place: rows of a tensor, or bytes, by `pread` into buffers of our own.

A memory map would count as memory, and erratically. This room knows where tensors lie and what their bytes mean; it
knows no adapters.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import InvalidFile
from registry.formats.base_files import StoredBase, StoredTensor

DTYPES: Mapping[str, torch.dtype] = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
CHUNK = 1 << 20  # bytes read at once

_BLOCK = 1 << 17  # elements computed at once: a float32 copy of them stays in a core's second cache


@dataclass(frozen=True, slots=True)
class Shard:
    """A file of a base. `path` is relative to the base's folder; `tensors` are in the order of their bytes."""

    path: str
    file: Path
    size: int
    tensors: tuple[StoredTensor, ...]


def shards_of(base: StoredBase, folder: Path) -> tuple[Shard, ...]:
    """The files of a base in a folder, sorted by path."""
    files: dict[Path, list[StoredTensor]] = {}
    for tensor in base.tensors:
        files.setdefault(tensor.file, []).append(tensor)
    shards = [
        Shard(file.relative_to(folder).as_posix(), file, file.stat().st_size, tuple(sorted(held, key=_position)))
        for file, held in files.items()
    ]
    return tuple(sorted(shards, key=lambda shard: shard.path))


def _position(tensor: StoredTensor) -> int:
    return tensor.start


def label(tensor: StoredTensor) -> str:
    """`component/name`, or the name alone."""
    return f"{tensor.component}/{tensor.name}" if tensor.component else tensor.name


def headers_index(base: StoredBase) -> BaseIndex:
    """The index of a base without the digests of its bytes: enough to match names and shapes, no identity."""
    tensors = (BaseTensor(t.component, t.name, t.dtype, t.shape, t.size, "") for t in base.tensors)
    return BaseIndex(base.format, base.model_type, tuple({tensor.label: tensor for tensor in tensors}.values()))


def block_rows(width: int) -> int:
    """How many rows of a matrix of this width are computed at once. It depends on nothing else.

    So each element comes out of a product of the same shape wherever its tensor lies, and has the same bits.
    """
    return max(16, min(256, _BLOCK // width))


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """Files of a model, open for reading. A context manager."""

    descriptors: Mapping[Path, int]
    stack: ExitStack

    @classmethod
    def of(cls, files: Sequence[Path]) -> Self:
        with ExitStack() as stack:
            streams = {file: stack.enter_context(file.open("rb", buffering=0)) for file in dict.fromkeys(files)}
            return cls({file: stream.fileno() for file, stream in streams.items()}, stack.pop_all())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def read_into(self, file: Path, buffer: memoryview, position: int) -> None:
        """Fill a buffer from a position of a file. Raises InvalidFile if it ends before."""
        while buffer:
            count = os.preadv(self.descriptors[file], [buffer], position)
            if not count:
                raise InvalidFile(str(file), f"byte {position}", "the file became shorter while it was read")
            buffer, position = buffer[count:], position + count

    def rows(self, tensor: StoredTensor, start: int, stop: int) -> Tensor:
        """Rows of a tensor as a matrix (rows, everything else), in its dtype."""
        width = row_width(tensor)
        itemsize = DTYPES[tensor.dtype].itemsize
        data = bytearray((stop - start) * width * itemsize)
        self.read_into(tensor.file, memoryview(data), tensor.start + start * width * itemsize)
        return torch.frombuffer(data, dtype=DTYPES[tensor.dtype]).reshape(stop - start, width)

    def matrix(self, tensor: StoredTensor) -> Tensor:
        """A whole tensor as a matrix (first dimension, everything else), in its dtype."""
        return self.rows(tensor, 0, row_count(tensor))

    def chunks(self, tensor: StoredTensor) -> Iterator[memoryview]:
        """The bytes of a tensor, in one buffer that is used again: look at a piece before taking the next."""
        buffer = memoryview(bytearray(min(CHUNK, tensor.size)))
        for position in range(0, tensor.size, CHUNK):
            piece = buffer[: min(CHUNK, tensor.size - position)]
            self.read_into(tensor.file, piece, tensor.start + position)
            yield piece


def row_count(tensor: StoredTensor) -> int:
    """Rows of a tensor as a matrix; a vector is a single row's worth of one column each."""
    return tensor.shape[0] if tensor.shape else 1


def row_width(tensor: StoredTensor) -> int:
    """Elements of a row: everything behind the first dimension."""
    width = 1
    for size in tensor.shape[1:]:
        width *= size
    return width


def row_blocks(rows: int, width: int) -> Iterator[tuple[int, int]]:
    """The blocks (start, stop) of a matrix, from its first row on."""
    step = block_rows(width)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)
