"""The base's weights, one tensor at a time: for adapters whose delta is a function of them.

A folder of safetensors, one such file, or a base that lies in a store. GGUF is refused: its matrices may be quantised,
and llama.cpp permutes rows of some of them. This room reads files and knows no adapters.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from registry.domain.errors import InvalidFile, UnsupportedAdapter
from registry.formats.base_files import BaseTree, StoredTensor, read_base, read_tree
from registry.formats.tensor_file import take

ROWS = 256  # that are read at once
_DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


class BaseWeights:
    """The tensors of a base by label, `component/name` or the name alone; nothing but headers is held.

    Raises InvalidFile for a base that is absent or malformed, UnsupportedAdapter for GGUF.
    """

    def __init__(self, source: Path | BaseTree) -> None:
        self._tree = source if isinstance(source, BaseTree) else None
        path = source.root if isinstance(source, BaseTree) else source
        stored = read_tree(source) if isinstance(source, BaseTree) else read_base(source)
        if stored.format != "safetensors":
            reason = "its matrices may be quantised and permuted; give the safetensors that it was made from"
            raise UnsupportedAdapter(str(path), f"a base in {stored.format}", reason)
        self._path = path
        self._tensors = {_label(tensor): tensor for tensor in stored.tensors}

    def read(self, label: str, shape: tuple[int, ...]) -> Tensor:
        """A tensor in float64. Raises UnsupportedAdapter if it is absent, quantised or of another shape."""
        tensor = self._find(label, shape)
        with self._open(tensor) as stream:
            return _numbers(stream, tensor, tensor.size).reshape(shape)

    def rows(self, label: str, shape: tuple[int, ...]) -> Iterator[Tensor]:
        """A tensor in float64, up to `ROWS` rows at a time. Raises what `read` does."""
        tensor = self._find(label, shape)
        with self._open(tensor) as stream:
            for start in range(0, shape[0], ROWS):
                count = min(ROWS, shape[0] - start)
                yield _numbers(stream, tensor, count * (tensor.size // shape[0])).reshape(count, *shape[1:])

    def holds(self, label: str, values: Tensor) -> bool:
        """Whether a tensor has exactly these values, whatever the dtypes. Raises what `read` does."""
        shape = tuple(values.shape)
        blocks = torch.split(values, ROWS)
        return all(
            torch.equal(rows, block.double()) for rows, block in zip(self.rows(label, shape), blocks, strict=True)
        )

    @contextmanager
    def _open(self, tensor: StoredTensor) -> Iterator[BinaryIO]:
        if self._tree is None:
            with tensor.file.open("rb") as stream:
                stream.seek(tensor.start)
                yield stream
            return
        path = tensor.file.relative_to(self._tree.root).as_posix()
        with self._tree.open_file(path, start=tensor.start, length=tensor.size) as stream:
            yield stream

    def _find(self, label: str, shape: tuple[int, ...]) -> StoredTensor:
        tensor = self._tensors.get(label)
        if tensor is None or tensor.shape != shape or tensor.dtype not in _DTYPES:
            found = f"{tensor.dtype} of shape {list(tensor.shape)}" if tensor else "no such tensor"
            reason = f"floating numbers of shape {list(shape)} are needed, and the base has {found}"
            raise UnsupportedAdapter(str(self._path), f"the tensor {label}", reason)
        return tensor


def _numbers(stream: BinaryIO, tensor: StoredTensor, size: int) -> Tensor:
    data = bytearray(take(stream, size))
    if len(data) < size:
        raise InvalidFile(str(tensor.file), f"tensor {tensor.name!r}", "the file ends inside it")
    return torch.frombuffer(data, dtype=_DTYPES[tensor.dtype]).double()


def _label(tensor: StoredTensor) -> str:
    return f"{tensor.component}/{tensor.name}" if tensor.component else tensor.name
