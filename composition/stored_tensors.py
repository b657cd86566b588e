"""An adapter's tensors out of one safetensors file, read from front to back into memory of its size.

Knows files' bytes and which roles tensors have, no modules and no deltas.
"""

import math
import mmap
from collections.abc import Mapping
from io import BufferedReader
from typing import Any

import torch
from torch import Tensor

from composition.low_rank import is_finite
from registry.domain.digest import CHUNK
from registry.domain.errors import InvalidAdapter, InvalidFile, UnsupportedAdapter
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec, TensorEntry
from registry.formats.safetensors import read_header

_STORED = frozenset({"A", "B"})  # roles whose tensors stay in their dtype
_DTYPES: Mapping[str, torch.dtype] = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def read_tensors(
    source: "BufferedReader[Any]", spec: AdapterSpec, *, subject: str, file: FileEntry
) -> dict[str, Tensor]:
    """Every tensor of a file {name: tensor}: factors as they are stored, others as float32.

    They are views of one copy of the file. Raises InvalidFile, UnsupportedAdapter for a tensor or a dtype that the
    specification doesn't know, InvalidAdapter for numbers that aren't finite.
    """
    roles = {name: role for module in spec.modules for role, name in module.tensors.items()}
    header = read_header(source, size=file.size, path=file.path)
    for entry in header.tensors:
        if entry.name not in roles:
            raise UnsupportedAdapter(subject, f"the tensor {entry.name!r}", "it belongs to no factor of a module")
        if entry.dtype not in _DTYPES:
            raise UnsupportedAdapter(subject, f"the dtype {entry.dtype}", f"known are {', '.join(_DTYPES)}")
    data = _read_data(source, header.data_start, file)
    tensors: dict[str, Tensor] = {}
    for entry in header.tensors:
        tensor = _tensor(data, entry, subject)
        tensors[entry.name] = tensor if roles[entry.name] in _STORED else tensor.float()
    return tensors


def _read_data(source: "BufferedReader[Any]", start: int, file: FileEntry) -> mmap.mmap:
    """Memory of a file's size, filled from `start` on: in large pages, since touching small ones takes long."""
    data = mmap.mmap(-1, file.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        data.madvise(mmap.MADV_HUGEPAGE)
    room = memoryview(data)
    while start < file.size:
        count = source.readinto(room[start : start + CHUNK])
        if not count:
            raise InvalidFile(file.path, f"byte {start}", "the file ends inside its tensors")
        start += count
    return data


def _tensor(data: mmap.mmap, entry: TensorEntry, subject: str) -> Tensor:
    """A tensor as it lies in a file's bytes; the header's reader has seen to it that it is aligned, and within them."""
    count = math.prod(entry.shape)
    tensor = torch.frombuffer(data, dtype=_DTYPES[entry.dtype], count=count, offset=entry.start).reshape(entry.shape)
    if not is_finite(tensor):
        raise InvalidAdapter(f"{subject}, tensor {entry.name}", "it has values that are NaN or infinite")
    return tensor
