"""An adapter's weights on disk, module by module: the factors as they are stored, no more of them in memory than asked.

For checking and measuring. What is composed is loaded by `files`, which hashes what it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from composition.shards import DTYPES, OpenFiles
from registry.domain.errors import InvalidAdapter
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats.base_files import StoredTensor
from registry.formats.peft import WEIGHTS, read_folder
from registry.formats.safetensors import read_header


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter in a folder. `tensors` is every tensor of its file by name."""

    folder: Path
    spec: AdapterSpec
    tensors: Mapping[str, StoredTensor]

    @property
    def file(self) -> Path:
        return self.folder / WEIGHTS


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A delta as the base stores it: `scaling * left @ right`. left: (rows, rank); right: (rank, width)."""

    left: Tensor
    right: Tensor
    scaling: float
    dtype: str


def open_weights(folder: Path) -> AdapterWeights:
    """Read an adapter's configuration and header. Raises InvalidFile, InvalidAdapter, UnsupportedAdapter."""
    spec = read_folder(folder)
    file = folder / WEIGHTS
    with file.open("rb") as stream:
        header = read_header(stream, size=file.stat().st_size, path=str(file))
    tensors = {
        t.name: StoredTensor("", t.name, t.dtype, t.shape, file, t.start, t.end - t.start) for t in header.tensors
    }
    return AdapterWeights(folder, spec, tensors)


def has_factors(module: ModuleSpec) -> bool:
    """Whether a module's delta is a product of two factors and nothing besides."""
    grouped = "grouped_conv" in module.variants
    return module.kind in ("linear", "embedding", "conv") and module.tensors.keys() == {"A", "B"} and not grouped


def read_factors(
    files: OpenFiles, adapter: AdapterWeights, module: ModuleSpec, shape: tuple[int, int] | None = None
) -> Factors:
    """A module's factors in their dtype, for a base's matrix of a shape. Raises InvalidAdapter for an unknown dtype."""
    a, b = (_matrix(files, adapter, module.tensors[role]) for role in ("A", "B"))
    transposed = "fan_in_fan_out" in module.variants and shape == (a.shape[1], b.shape[0])
    turned = module.kind == "embedding" or (module.kind == "linear" and transposed)
    left, right = (a.T, b.T) if turned else (b, a)
    return Factors(left, right, module.scaling, module.dtype)


def _matrix(files: OpenFiles, adapter: AdapterWeights, name: str) -> Tensor:
    tensor = adapter.tensors[name]
    if tensor.dtype not in DTYPES:
        raise InvalidAdapter(name, f"its dtype {tensor.dtype} is none of {', '.join(DTYPES)}")
    return files.matrix(tensor)
