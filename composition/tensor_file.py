"""A safetensors file of our own tensors: written from front to back, each tensor as soon as it is known.

The header stands before the data, and is written first as it is expected. Where that came out otherwise, because a rank
was lost to cancelling or found by a rule, the right one takes its place at the end, filled up with blanks: the format
allows those. Large pieces go to the disk while the next tensors are computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from composition.output_file import OutputFile
from registry.formats.safetensors import TensorOutline, encode_header

PIECE = 4 << 20  # bytes that are written at once
_NAMES: Mapping[torch.dtype, str] = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class TensorFile:
    """A file being written. `expected` is what its header will say at most."""

    def __init__(self, out: OutputFile, expected: Sequence[TensorOutline], metadata: Mapping[str, str]) -> None:
        self._out = out
        self._metadata = metadata
        self._written: list[TensorOutline] = []
        self._piece = memoryview(b"")
        self._filled = 0
        self._header = encode_header(expected, metadata)
        self._append(memoryview(self._header))

    def add(self, name: str, tensor: Tensor) -> None:
        """Append a tensor, which is on the CPU. Its bytes are copied before this returns."""
        self._written.append(outline(name, tensor))
        self._append(tensor.contiguous().flatten().view(torch.uint8).numpy().data)

    def finish(self) -> None:
        """Write what is left of it, and the header that is right."""
        self._flush()
        header = encode_header(self._written, self._metadata, len(self._header))
        if header != self._header:
            assert len(header) == len(self._header), "more came than was expected"
            self._out.rewrite_start(header)
        self._out.settle()

    def _append(self, data: memoryview) -> None:
        while data:
            if self._filled == len(self._piece):
                self._flush()
                self._piece = self._out.buffer(PIECE)
            count = min(len(data), len(self._piece) - self._filled)
            self._piece[self._filled : self._filled + count] = data[:count]
            self._filled += count
            data = data[count:]

    def _flush(self) -> None:
        if self._filled:
            self._out.put(self._piece[: self._filled])
        self._piece, self._filled = memoryview(b""), 0


def outline(name: str, tensor: Tensor) -> TensorOutline:
    """What a header says of a tensor."""
    return TensorOutline(name, _NAMES[tensor.dtype], tuple(tensor.shape))


@contextmanager
def tensor_file(
    path: Path, expected: Sequence[TensorOutline], metadata: Mapping[str, str], *, durable: bool = False
) -> Iterator[TensorFile]:
    """A new file, whole when the block is left; `durable`: and on the disk."""
    with OutputFile(path, lambda _: None, direct=durable, hashed=False) as out:
        file = TensorFile(out, expected, metadata)
        yield file
        file.finish()
        if durable:
            out.sync()


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors of one dtype {name: tensor} into a new file, sorted by name."""
    names = sorted(tensors)
    with tensor_file(path, [outline(name, tensors[name]) for name in names], metadata) as file:
        for name in names:
            file.add(name, tensors[name])
