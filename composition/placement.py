"""Where an adapter's modules lie in a base's files, and what is added there: the product of two factors, by rows.

Matching names is `registry.domain.bases`' business; here each match becomes a sum that can be computed, or is refused
by name: a matrix that shares its tensor with something else can't be changed alone.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.low_rank import LowRank
from composition.shards import DTYPES, label, row_count, row_width
from registry.domain.bases import BaseIndex, match
from registry.domain.errors import UnsupportedAdapter
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec
from registry.formats.base_files import StoredBase, StoredTensor

_TIED_HEADS = frozenset({"lm_head", "embed_out", "output"})


@dataclass(frozen=True, slots=True)
class Place:
    """A module's tensor. `transposed`: the base stores (in, out), and the delta is added the other way round."""

    module: str
    tensor: StoredTensor
    transposed: bool


@dataclass(frozen=True, slots=True, eq=False)
class Addition:
    """What is added to a tensor: `left @ right` in float32. left: (rows, rank); right: (rank, width)."""

    module: str
    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, place: Place, delta: LowRank) -> "Addition":
        folded = delta.folded()
        left, right = (folded.A.T, folded.B.T) if place.transposed else (folded.B, folded.A)
        return cls(place.module, left.float().contiguous(), right.float().contiguous())


def linear_spec(name: str, shape: tuple[int, int], *, transposed: bool, rank: int = 1) -> ModuleSpec:
    """The module of a delta of a shape (out, in), not yet matched."""
    variants = ("fan_in_fan_out",) if transposed else ()
    out, inside = shape
    return ModuleSpec(
        name, "linear", rank, float(rank), 1.0, inside, out, "F32", variants, tensors={"A": name}, base_shape=shape
    )


def place_modules(
    modules: Iterable[ModuleSpec], base: StoredBase, index: BaseIndex, *, name: str
) -> dict[str, list[Place]]:
    """The place of each module {module: every copy of its tensor}; `name` is what errors call the base.

    Raises BaseMismatch for a module that matches no tensor, several, or one of another shape, and UnsupportedAdapter
    for one whose tensor is quantised, stacked or tied, or that shares it with another module.
    """
    stored: dict[str, list[StoredTensor]] = {}
    for tensor in base.tensors:
        stored.setdefault(label(tensor), []).append(tensor)
    matched = match(AdapterSpec(_SUMMARY, tuple(modules)), index, base=name)
    owners: dict[str, str] = {}
    places: dict[str, list[Place]] = {}
    for module in matched.modules:
        where = module.base_tensor or ""
        if (other := owners.setdefault(where, module.name)) != module.name:
            raise UnsupportedAdapter(name, f"the tensor {where}", f"{other} and {module.name} both adapt it")
        places[module.name] = [_place(module, tensor, name) for tensor in stored[where]]
    return places


_SUMMARY = AdapterSummary("peft", "LORA", 0, 0.0, {}, (), (), "F32", 0)


def _place(module: ModuleSpec, tensor: StoredTensor, base: str) -> Place:
    if tensor.dtype not in DTYPES:
        reason = f"its weights are stored as {tensor.dtype}; known are {', '.join(DTYPES)}"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)}", reason)
    leaf = module.name.rpartition(".")[2]
    if leaf in _TIED_HEADS and leaf not in tensor.name.split("."):
        reason = f"{module.name} shares it with the embeddings, which would change too"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)}", reason)
    found = (row_count(tensor), row_width(tensor))
    transposed = "fan_in_fan_out" in module.variants and found == module.base_shape[::-1]
    if found != (module.base_shape[::-1] if transposed else module.base_shape):
        reason = f"{module.name} is only a part of it, and merging into parts is not implemented"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)} of shape {list(tensor.shape)}", reason)
    return Place(module.name, tensor, transposed)


def additions(places: Mapping[str, list[Place]], deltas: Mapping[str, LowRank]) -> dict[str, Addition]:
    """What is added to each tensor {label: addition}. Both tables are by module name."""
    with torch.no_grad():
        return {
            label(places[module][0].tensor): Addition.of(places[module][0], delta) for module, delta in deltas.items()
        }
