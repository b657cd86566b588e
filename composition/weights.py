"""An adapter's weights on disk, module by module: the factors as they are stored, no more of them in memory than asked.

Every format that `registry.formats` reads. For checking and measuring; what is composed is loaded by `files`, which
hashes what it reads.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from composition.adapter_source import component_folders
from composition.layers import read_layer
from composition.shards import DTYPES, OpenFiles
from registry.domain.errors import InvalidAdapter
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats.base_files import StoredTensor
from registry.formats.folder import read_path
from registry.formats.safetensors import Limits, read_header

_CORE = "core"  # of a convolution in Tucker form
_MAGNITUDES = frozenset({"magnitude", "magnitude_in"})
_NUMBERS = frozenset({"alpha"})  # roles that are a number, which the scaling has already


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """An adapter in a folder or a file. `tensors` is every tensor of its files by name."""

    spec: AdapterSpec
    tensors: Mapping[str, StoredTensor]

    @property
    def files(self) -> list[Path]:
        return list(dict.fromkeys(tensor.file for tensor in self.tensors.values()))


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """A delta as the base stores it: `scaling * left @ right`. left: (rows, rank); right: (rank, width)."""

    left: Tensor
    right: Tensor
    scaling: float
    dtype: str


def open_weights(source: Path) -> AdapterWeights:
    """Read an adapter's configuration and header, or those of PEFT's folders, one a component, in a folder.

    Raises InvalidFile, InvalidAdapter, RankMismatch, UnsupportedAdapter.
    """
    components = component_folders(source)
    if not components:
        return _open(source)
    parts = [_within(path.name, _open(path)) for path in components]
    modules = tuple(module for part in parts for module in part.spec.modules)
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return AdapterWeights(replace(parts[0].spec, modules=modules), tensors)


def _open(source: Path) -> AdapterWeights:
    found = read_path(source)
    file = found.weights
    with file.open("rb") as stream:
        header = read_header(stream, size=file.stat().st_size, path=str(file), limits=Limits(aligned=False))
    tensors = {
        t.name: StoredTensor("", t.name, t.dtype, t.shape, file, t.start, t.end - t.start) for t in header.tensors
    }
    return AdapterWeights(found.spec, tensors)


def _within(component: str, weights: AdapterWeights) -> AdapterWeights:
    """The same with a component's name in front of every module and every tensor."""
    modules = tuple(
        replace(
            module,
            name=f"{component}.{module.name}",
            tensors={role: f"{component}.{name}" for role, name in module.tensors.items()},
        )
        for module in weights.spec.modules
    )
    tensors = {f"{component}.{name}": tensor for name, tensor in weights.tensors.items()}
    return AdapterWeights(replace(weights.spec, modules=modules), tensors)


def has_factors(module: ModuleSpec) -> bool:
    """Whether a module's delta is a product of two factors, or becomes one exactly, and nothing besides."""
    if module.kind in ("loha", "lokr"):
        return not _MAGNITUDES & module.tensors.keys()
    grouped = "grouped_conv" in module.variants
    roles = module.tensors.keys() - _NUMBERS - {_CORE}
    return module.kind in ("linear", "embedding", "conv") and roles == {"A", "B"} and not grouped


def factor_roles(module: ModuleSpec) -> frozenset[str]:
    """The roles of a module's tensors that its factors and their scaling are in; the others are told apart."""
    if module.kind in ("loha", "lokr"):
        return frozenset(module.tensors) - _MAGNITUDES
    return (frozenset({"A", "B", _CORE}) | _NUMBERS) & module.tensors.keys()


def read_factors(
    files: OpenFiles, adapter: AdapterWeights, module: ModuleSpec, shape: tuple[int, int] | None = None
) -> Factors:
    """A module's factors for a base's matrix of a shape: in their dtype, those that are computed in float32.

    Raises InvalidAdapter for an unknown dtype, UnsupportedAdapter for a LoHa or LoKr that is a LoRA of too high a rank.
    """
    stored = {role: _tensor(files, adapter, name) for role, name in module.tensors.items() if role not in _NUMBERS}
    if module.kind in ("loha", "lokr") or _CORE in module.tensors:
        layer = read_layer(module, stored)
        return Factors(layer.B.flatten(1), layer.A.flatten(1), layer.scaling, module.dtype)
    a, b = stored["A"].flatten(1), stored["B"].flatten(1)
    transposed = "fan_in_fan_out" in module.variants and shape == (a.shape[1], b.shape[0])
    turned = module.kind == "embedding" or (module.kind == "linear" and transposed)
    left, right = (a.T, b.T) if turned else (b, a)
    return Factors(left, right, module.scaling, module.dtype)


def _tensor(files: OpenFiles, adapter: AdapterWeights, name: str) -> Tensor:
    tensor = adapter.tensors[name]
    if tensor.dtype not in DTYPES:
        raise InvalidAdapter(name, f"its dtype {tensor.dtype} is none of {', '.join(DTYPES)}")
    return files.matrix(tensor).reshape(tensor.shape)
