"""Layers of an adapter as they are stored, in any format, for writing them in another: no sum is formed here.

A layer is a pair of factors in the dtype of its file and a scaling. LoHa and LoKr become such pairs exactly; what is
no product of two factors is refused by name. Flux's fused layers are taken apart and put together again.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import BinaryIO

import torch
from torch import Tensor

from registry.domain.errors import InvalidAdapter, InvalidFile, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats.peft_config import MAX_RANK
from registry.formats.safetensors import Limits, read_header

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
_KINDS = ("linear", "conv", "loha", "lokr")
# Variants whose effect is in each layer's rank, shape and scaling.
_FOLDED = frozenset({"rslora", "rank_pattern", "alpha_pattern", "conv", "loha", "lokr"})
_REASONS = {
    "dora": "its delta is a function of the base's weights, which blend and merge take with --base DIR",
    "fan_in_fan_out": "it adapts matrices that the base stores as (in, out)",
    "grouped_conv": "its factors are split into groups",
    "embedding": "it adapts embeddings, whose factors are stored the other way round",
    "modules_to_save": "it replaces whole modules",
    "bias": "it replaces the base's biases",
    "lora_bias": "the other formats have no biases",
    "target_parameters": "it adapts stacks of experts, which no other format has",
    "trainable_tokens": "it replaces single embedding rows",
    "layer_replication": "its layers are not those of the base",
    "alora": "it is active from its invocation tokens on only",
    **dict.fromkeys(("ia3", "feedforward"), "it multiplies activations, where the other formats add to weights"),
    **dict.fromkeys(
        ("pissa", "olora", "corda", "lora_ga", "loftq"),
        "its factors are no delta of the published base; convert what blend makes of it",
    ),
}
KERNELS_UNKNOWN = "it doesn't say which layers are convolutions; the base does"  # of PEFT's LoHa and LoKr
_NO_FACTORS = "it is no product of two factors, which is all that the formats have in common"


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer: delta = scaling · B·A. A: (rank, in[, kernel]); B: (out, rank[, 1…]); `name` as in its ModuleSpec.

    With a `magnitude` that is DoRA's direction only; no writer has such a layer.
    """

    name: str
    A: Tensor
    B: Tensor
    scaling: float
    magnitude: Tensor | None = None

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def alpha(self) -> float:
        """What a reader who multiplies by alpha / rank must be told."""
        return self.scaling * self.rank


def check_convertible(subject: str, spec: AdapterSpec, *, with_base: bool = False) -> None:
    """Raises UnsupportedAdapter that names the adapter, the variant or module that is no pair of factors, and why.

    `with_base`: the base's weights are there, for DoRA.
    """
    known = _FOLDED | ({"dora"} if with_base else set())
    for variant in spec.summary.variants:
        if variant not in known:
            raise UnsupportedAdapter(subject, variant, _REASONS.get(variant, _NO_FACTORS))
    for module in spec.modules:
        for variant in (module.kind, *module.variants):
            if variant not in (*_KINDS, *known):
                raise UnsupportedAdapter(
                    f"{subject}, module {module.name}", variant, _REASONS.get(variant, _NO_FACTORS)
                )


def read_layers(
    stream: BinaryIO, spec: AdapterSpec, *, size: int, path: str, with_base: bool = False
) -> tuple[Layer, ...]:
    """Every layer of an adapter from its safetensors file of `size` bytes, in the order of the modules.

    Raises InvalidFile, InvalidAdapter, and UnsupportedAdapter for a kind or a dtype that is not converted.
    """
    check_convertible(path, spec, with_base=with_base)
    source = io.BufferedReader(stream) if isinstance(stream, io.RawIOBase) else stream
    wanted = {name for module in spec.modules for name in module.tensors.values()}
    tensors: dict[str, Tensor] = {}
    for entry in read_header(source, size=size, path=path, limits=Limits(aligned=False)).tensors:
        data = bytearray(source.read(entry.end - entry.start))
        if len(data) < entry.end - entry.start:
            raise InvalidFile(path, f"tensor {entry.name!r}", "the file ends inside it")
        if entry.name not in wanted:
            raise InvalidAdapter(entry.name, "it belongs to no layer")
        if entry.dtype not in DTYPES:
            raise UnsupportedAdapter(path, f"the dtype {entry.dtype}", f"known are {', '.join(DTYPES)}")
        tensors[entry.name] = _tensor(data, DTYPES[entry.dtype], entry.shape, entry.name)
    return tuple(_layer(module, tensors) for module in spec.modules)


def _tensor(data: bytearray, dtype: torch.dtype, shape: Sequence[int], name: str) -> Tensor:
    tensor = torch.frombuffer(data, dtype=dtype).reshape(shape)
    if not tensor.isfinite().all():
        raise InvalidAdapter(f"tensor {name}", "it has values that are NaN or infinite")
    return tensor


def _layer(module: ModuleSpec, tensors: Mapping[str, Tensor]) -> Layer:
    roles = {role: tensors[name] for role, name in module.tensors.items() if role != "alpha"}
    if (rank := _rank_as_lora(module, roles)) > MAX_RANK:
        raise UnsupportedAdapter(module.name, f"a LoRA of rank {rank}", f"PEFT and its kin go up to {MAX_RANK}")
    if module.kind == "loha":
        a, b = loha_factors(roles)
    elif module.kind == "lokr":
        a, b = lokr_factors(roles)
    elif "core" in roles:
        a, b = core_factor(roles["core"], roles["A"]).float(), roles["B"]
    else:
        a, b = roles["A"], roles["B"]
    magnitude = next((roles[role] for role in ("magnitude", "magnitude_in") if role in roles), None)
    return Layer(module.name, *_with_kernel(module, a, b), module.scaling, magnitude)


def read_layer(module: ModuleSpec, tensors: Mapping[str, Tensor]) -> Layer:
    """A layer of its tensors by role, as `read_layers` gives it."""
    return _layer(module, {module.tensors[role]: tensor for role, tensor in tensors.items()})


def _rank_as_lora(module: ModuleSpec, roles: Mapping[str, Tensor]) -> int:
    """The rank of the pair of factors that a layer becomes, known before any is formed."""
    if module.kind == "loha":
        return module.rank**2
    if module.kind == "lokr":
        sides = [roles.get(name) for name in ("lokr_w1", "lokr_w2")]
        return prod(module.rank if side is None else min(side.flatten(1).shape) for side in sides)
    return module.rank


def _with_kernel(module: ModuleSpec, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of matrices as those of a convolution, where the shape that is adapted has a kernel."""
    kernel = module.base_shape[2:]
    if not kernel or a.ndim > 2:
        return a, b
    return a.reshape(a.shape[0], -1, *kernel), b.reshape(*b.shape, *(1 for _ in kernel))


# -- LyCORIS ----------------------------------------------------------------------------------------------------------


def loha_factors(roles: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A (r², in) and B (out, r²) of (w1_a w1_b) ∘ (w2_a w2_b), in float32: row-wise Khatri-Rao products.

    Source: Hyeon-Woo et al. 2021, arXiv 2108.06098, proposition 1.
    """
    (a1, b1), (a2, b2) = (_pair(roles, f"hada_w{side}", f"hada_t{side}") for side in "12")
    rank = a1.shape[1]
    b = (a1[:, :, None] * a2[:, None, :]).reshape(-1, rank * rank)
    a = (b1[:, None, :] * b2[None, :, :]).reshape(rank * rank, -1)
    return a.float(), b.float()


def lokr_factors(roles: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A (r1·r2, in) and B (out, r1·r2) of w1 ⊗ w2, in float32: (U1 ⊗ U2)(V1 ⊗ V2). Source: arXiv 2309.14859."""
    u1, v1 = _side(roles, "lokr_w1")
    u2, v2 = _side(roles, "lokr_w2")
    return _kronecker(v1, v2).float(), _kronecker(u1, u2).float()


def _kronecker(left: Tensor, right: Tensor) -> Tensor:
    """left ⊗ right. torch.kron takes views of its inputs, and fails on those of one row or column that einsum makes."""
    product = left[:, None, :, None] * right[None, :, None, :]
    return product.reshape(left.shape[0] * right.shape[0], -1)


def _side(roles: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """w1 or w2 as a product; a whole one is the product with an identity on its shorter side."""
    if name not in roles:
        return _pair(roles, name, name.replace("_w", "_t"))
    whole = roles[name].double().flatten(1)
    rows, columns = whole.shape
    identity = torch.eye(min(rows, columns), dtype=torch.float64)
    return (whole, identity) if columns <= rows else (identity, whole)


def _pair(roles: Mapping[str, Tensor], name: str, core: str) -> tuple[Tensor, Tensor]:
    """(out, r) and (r, in·kernel) of two factors, in float64; a core between them goes into the second."""
    a, b = roles[f"{name}_a"].double(), roles[f"{name}_b"].double()
    return (a.T, core_factor(roles[core], b).flatten(1)) if core in roles else (a, b)


def core_factor(core: Tensor, inside: Tensor) -> Tensor:
    """(r, in, kernel) of Tucker's core (r, r, kernel) and its inner factor (r, in[, 1…]), in float64.

    Source: lycoris-lora 4.1.3, functional/general.py, rebuild_tucker.
    """
    factor = torch.einsum("ijk,jn->ink", core.double().flatten(2), inside.double().flatten(1))
    return factor.reshape(*factor.shape[:2], *core.shape[2:])


# -- fused layers -----------------------------------------------------------------------------------------------------


def split_rows(layer: Layer, names: Sequence[str], rows: Sequence[int]) -> Iterator[Layer]:
    """The parts of a layer whose output stands for several, one below the other."""
    if sum(rows) != layer.B.shape[0]:
        raise InvalidAdapter(
            layer.name, f"its {layer.B.shape[0]} outputs are not the {sum(rows)} of {len(names)} parts"
        )
    for name, count, end in zip(names, rows, accumulate(rows), strict=True):
        yield Layer(name, layer.A, layer.B[end - count : end], layer.scaling)


def join_rows(name: str, parts: Sequence[Layer | None], rows: Sequence[int]) -> Layer:
    """One layer whose output stands for several, exact; a missing part has a delta of zero.

    Parts with one A in common keep its rank; else the ranks add up and B is block-diagonal.
    """
    present = [part for part in parts if part is not None]
    first = present[0]
    shared = all(part.scaling == first.scaling and torch.equal(part.A, first.A) for part in present)
    if shared:
        blocks = _stacked(parts, rows, first.rank)
        return Layer(name, first.A, torch.cat(blocks), first.scaling)
    scaled = [part and with_scaling(part, 1.0) for part in parts]
    diagonal: Tensor = torch.block_diag(*_stacked(scaled, rows, 0))  # type: ignore[no-untyped-call]
    return Layer(name, torch.cat([part.A for part in scaled if part]), diagonal, 1.0)


def _stacked(parts: Sequence[Layer | None], rows: Sequence[int], rank: int) -> list[Tensor]:
    """Each part's B; zeros (rows, rank) for one that is missing."""
    like = next(part.B for part in parts if part)
    return [part.B if part else like.new_zeros(count, rank) for part, count in zip(parts, rows, strict=True)]


def with_scaling(layer: Layer, scaling: float) -> Layer:
    """The same delta written with another scaling; B stays in its dtype where that rounds nothing, else is float32.

    `scaling` 0 is impossible, unless the layer's is 0 too.
    """
    if layer.scaling == scaling:
        return layer
    exact = layer.B.double() * (layer.scaling / scaling)
    kept = exact.to(layer.B.dtype)
    rounded = kept if bool((kept.double() == exact).all()) else exact.float()
    return replace(layer, B=rounded, scaling=scaling)


def with_text_model(layer: Layer) -> Layer:
    """The same layer; one of a CLIP text encoder under the name that every file and its readers know.

    transformers 5 has no `text_model` in its CLIP any more.
    """
    component, _, path = layer.name.partition(".")
    if not (component.startswith("text_encoder") and path.startswith("encoder.layers.")):
        return layer
    return replace(layer, name=f"{component}.text_model.{path}")


def deduplicate(layers: Iterable[Layer]) -> tuple[Layer, ...]:
    """The layers sorted by name. Raises InvalidAdapter where two have one name."""
    found: dict[str, Layer] = {}
    for layer in layers:
        if found.setdefault(layer.name, layer) is not layer:
            raise InvalidAdapter(layer.name, "two layers of the adapter have this name")
    return tuple(found[name] for name in sorted(found))
