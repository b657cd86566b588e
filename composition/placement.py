"""Where an adapter's modules lie in a base's files, and which rows of which tensor each delta changes.

Matching names is `registry.domain.bases`' business; here each match becomes a term that can be computed, or is refused
by name: a matrix that shares its tensor with something else can't be changed alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor

from composition.adapter import Scale
from composition.changes import Contribution, Offset, Product, Replaced, Scaled, Term
from composition.low_rank import LowRank
from composition.replaced import ComposedTensor
from composition.shards import DTYPES, label, row_count, row_width
from composition.terms import LINEAR, Form, stack_of
from registry.domain.base_names import FUSED_EXPERTS
from registry.domain.bases import BaseIndex, match
from registry.domain.errors import UnsupportedAdapter
from registry.domain.replacements import KEY
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec
from registry.formats.base_files import StoredBase, StoredTensor

HEADS = frozenset({"lm_head", "embed_out", "output"})  # that checkpoints may leave out
# Models whose experts' parameters are (experts, in, out), which a square one doesn't show.
_TRANSPOSED_EXPERTS = frozenset({"gpt_oss"})


@dataclass(frozen=True, slots=True)
class Place:
    """A module's tensor, in each file that holds a copy of it. `transposed`: the base stores (in, out).

    `experts`: of a stack that the base stores one by one, each expert's tensors, one below the other in its matrix.
    """

    module: str
    tensor: StoredTensor
    transposed: bool
    experts: tuple[tuple[StoredTensor, ...], ...] = ()

    def contribution(self, term: Term, form: Form = LINEAR) -> Contribution:
        """A term as a change of this tensor: of all its rows, or of those of one expert."""
        width = self.tensor.shape[-1] if form.kind == "parameter" else row_width(self.tensor)
        rows = prod(self.tensor.shape) // width // form.experts
        start = form.expert * rows
        return Contribution(label(self.tensor), self.module, width, start, start + rows, term)


def linear_spec(name: str, shape: tuple[int, int], *, transposed: bool, rank: int = 1) -> ModuleSpec:
    """The module of a linear layer's delta (out, in), not yet matched."""
    return _spec(name, "linear", shape, base_shape=shape, rank=rank, transposed=transposed)


def delta_spec(name: str, form: Form, shape: tuple[int, int], *, transposed: bool) -> ModuleSpec:
    """The module of a delta of a shape (out, in) and a form, not yet matched; of an expert's, its whole stack."""
    out, inside = shape
    if form.kind == "parameter":
        base_shape = (form.experts, out, inside)
        return _spec(stack_of(name), form.kind, shape, base_shape=base_shape, experts=form.experts)
    if form.kind == "conv":
        return _spec(name, form.kind, shape, base_shape=(out, inside // prod(form.kernel), *form.kernel))
    if form.kind == "embedding":
        return _spec(name, form.kind, shape, base_shape=(inside, out))
    return linear_spec(name, shape, transposed=transposed)


def _spec(
    name: str,
    kind: str,
    shape: tuple[int, int],
    *,
    base_shape: tuple[int, ...],
    rank: int = 1,
    experts: int = 1,
    transposed: bool = False,
) -> ModuleSpec:
    variants = ("fan_in_fan_out",) if transposed else ()
    out, inside = shape
    return ModuleSpec(
        name,
        kind,
        rank,
        float(rank),
        1.0,
        inside,
        out,
        "F32",
        variants,
        tensors={"A": name},
        base_shape=base_shape,
        experts=experts,
    )


def place_modules(
    modules: Iterable[ModuleSpec], base: StoredBase, index: BaseIndex, *, name: str
) -> dict[str, list[Place]]:
    """The place of each module {module: every copy of its tensor}; `name` is what errors call the base.

    Raises BaseMismatch for a module that matches no tensor, several, or one of another shape, and UnsupportedAdapter
    for one whose tensor is quantised, divided or tied, or that shares it with another module.
    """
    stored = by_label(base)
    matched = match(AdapterSpec(_SUMMARY, tuple(modules)), index, base=name)
    owners: dict[str, str] = {}
    places: dict[str, list[Place]] = {}
    for module in matched.modules:
        where = module.base_tensor or ""
        if (other := owners.setdefault(where, module.name)) != module.name:
            raise UnsupportedAdapter(name, f"the tensor {where}", f"{other} and {module.name} both adapt it")
        places[module.name] = [_place(module, tensor, stored, index=index, base=name) for tensor in stored[where]]
    return places


_SUMMARY = AdapterSummary("peft", "LORA", 0, 0.0, {}, (), (), "F32", 0)


def by_label(base: StoredBase) -> dict[str, list[StoredTensor]]:
    """Every copy of each tensor {label: tensors}."""
    stored: dict[str, list[StoredTensor]] = {}
    for tensor in base.tensors:
        stored.setdefault(label(tensor), []).append(tensor)
    return stored


def _place(
    module: ModuleSpec, tensor: StoredTensor, stored: Mapping[str, list[StoredTensor]], *, index: BaseIndex, base: str
) -> Place:
    _check_dtype(tensor, base)
    leaf = module.name.rpartition(".")[2]
    if leaf in HEADS and leaf not in tensor.name.split("."):
        reason = f"{module.name} shares it with the embeddings, which would change too"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)}", reason)
    if module.kind == "parameter":
        return _place_stack(module, tensor, stored, index=index, base=base)
    found = (row_count(tensor), row_width(tensor))
    wanted = (module.base_shape[0], prod(module.base_shape[1:]))
    transposed = "fan_in_fan_out" in module.variants and found == wanted[::-1]
    if found != (wanted[::-1] if transposed else wanted):
        reason = f"{module.name} is only a part of it, and merging into parts is not implemented"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)} of shape {list(tensor.shape)}", reason)
    return Place(module.name, tensor, transposed or module.kind == "embedding")


def _place_stack(
    module: ModuleSpec, tensor: StoredTensor, stored: Mapping[str, list[StoredTensor]], *, index: BaseIndex, base: str
) -> Place:
    """A parameter of experts: PEFT takes it as (experts, out, in) unless its model says that it is transposed.

    Source: peft 0.21.2, tuners/lora/layer.py, ParamWrapper.update_layer.
    """
    experts, out, inside = module.base_shape
    shape = tensor.shape if len(tensor.shape) == 3 else (1, *tensor.shape)
    square = out == inside and index.model_type in _TRANSPOSED_EXPERTS
    if shape == (experts, out, inside) and not square:
        return Place(module.name, tensor, transposed=False)
    if shape == (experts, inside, out):
        return Place(module.name, tensor, transposed=True)
    return Place(module.name, tensor, transposed=False, experts=_single_experts(module, tensor, stored, base))


def _single_experts(
    module: ModuleSpec, first: StoredTensor, stored: Mapping[str, list[StoredTensor]], base: str
) -> tuple[tuple[StoredTensor, ...], ...]:
    """Each expert's tensors, where a checkpoint has one for each, which transformers stacks when it loads them."""
    experts, out, inside = module.base_shape
    holder, _, rest = label(first).rpartition(".experts.0.")
    known = FUSED_EXPERTS.get(module.name.rpartition(".")[2], ())
    parts = next((parts for parts in known if f"{parts[0]}.weight" == rest), ())
    names = [[f"{holder}.experts.{number}.{part}.weight" for part in parts] for number in range(experts)]
    found = tuple(tuple(stored[name][0] for name in each if name in stored) for each in names)
    for tensors in found:
        shapes = [tensor.shape for tensor in tensors]
        if sum(shape[0] for shape in shapes) != out or any(shape[1:] != (inside,) for shape in shapes):
            reason = f"{module.name} stacks experts of {out} x {inside}, which this base has in other shapes"
            raise UnsupportedAdapter(base, f"the tensor {label(first)} of shape {list(first.shape)}", reason)
        for tensor in tensors:
            _check_dtype(tensor, base)
    return found


def _check_dtype(tensor: StoredTensor, base: str) -> None:
    if tensor.dtype not in DTYPES:
        reason = f"its weights are stored as {tensor.dtype}; known are {', '.join(DTYPES)}"
        raise UnsupportedAdapter(base, f"the tensor {label(tensor)}", reason)


def product(place: Place, delta: LowRank, form: Form = LINEAR) -> Iterator[Contribution]:
    """A delta as a change of its tensor, or of the tensors of its expert."""
    if not place.experts:
        yield place.contribution(Product(delta, place.transposed), form)
        return
    start = 0
    for tensor in place.experts[form.expert]:
        stop = start + row_count(tensor)
        part = LowRank(delta.A, delta.B[start:stop], delta.scaling)
        yield Place(place.module, tensor, False).contribution(Product(part, False))
        start = stop


def replacement(item: ComposedTensor, stored: Mapping[str, list[StoredTensor]], *, name: str) -> Contribution:
    """A tensor in the place of the base's own. `stored` is every tensor by label.

    Raises UnsupportedAdapter if the base has none of its name and shape.
    """
    found = stored.get(item.base_tensor or "", [])
    if not found or found[0].shape != tuple(item.values.shape):
        has = f"one of shape {list(found[0].shape)}" if found else "none"
        reason = f"a tensor of shape {list(item.values.shape)} must be there to be replaced, and the base has {has}; "
        reason += "`adapters blend` keeps it beside the factors"
        raise UnsupportedAdapter(name, f"{KEY} ({item.module}.{item.parameter})", reason)
    _check_dtype(found[0], name)
    place = Place(f"{item.module}.{item.parameter}", found[0], False)
    return place.contribution(Replaced(item.values.float().reshape(row_count(found[0]), -1)))


def scaling(
    scale: Scale, stored: Mapping[str, list[StoredTensor]], *, transposed: bool, name: str
) -> Iterator[Contribution]:
    """A vector of IA3 as a change of its layer's weight, and of the bias where it multiplies the outputs.

    Raises UnsupportedAdapter for a vector whose tensor isn't known, or is of another size.
    """
    found = stored.get(scale.base_tensor or "", [])
    width, rows = (row_width(found[0]), row_count(found[0])) if found else (0, 0)
    by_row = scale.inward == (transposed and scale.dimensions == 2)
    side, folded = (rows, 1) if by_row else (width, width // max(1, len(scale.values)))
    if not found or side != len(scale.values) * folded:
        reason = f"it has {len(scale.values)} values, and the base's tensor {rows} x {width}"
        raise UnsupportedAdapter(name, f"the vector of {scale.name}", reason)
    _check_dtype(found[0], name)
    factors = scale.values.float().repeat_interleave(folded)
    place = Place(scale.name, found[0], False)
    yield place.contribution(Scaled(factors.unsqueeze(1) if by_row else factors.unsqueeze(0)))
    bias = stored.get(label(found[0]).removesuffix("weight") + "bias", [])
    if bias and not scale.inward:
        _check_dtype(bias[0], name)
        yield Place(scale.name, bias[0], False).contribution(Scaled(scale.values.float().unsqueeze(1)))


def offset(place: Place, bias: Tensor, stored: Mapping[str, list[StoredTensor]], *, name: str) -> Contribution:
    """A bias as a change of the base's own, next to the module's weight. `stored` is every tensor by label.

    Raises UnsupportedAdapter if the base has none.
    """
    wanted = label(place.tensor).removesuffix("weight") + "bias"
    found = stored.get(wanted, [])
    if not found or found[0].shape != tuple(bias.shape):
        reason = f"the base has no {wanted} of shape {list(bias.shape)} that it could be added to"
        raise UnsupportedAdapter(name, f"lora_bias of the module {place.module}", reason)
    _check_dtype(found[0], name)
    return Place(place.module, found[0], False).contribution(Offset(bias.float().unsqueeze(1)))
