"""From the tensors of one layer to its ModuleSpec, for the formats that keep no configuration: kohya and diffusers.

The rank is the tensors' own, and alpha stands beside them (a missing one means scaling 1). LoHa and LoKr, which
kohya's files may hold too, are in `registry.formats.lycoris`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from registry.domain.errors import InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.spec import AdapterSummary, ModuleSpec, TensorEntry

MAX_ALPHA = 1e9
FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

# Roles beside A, B and alpha -> the variant that they make of a layer.
_EXTRAS = {"magnitude": "dora", "magnitude_in": "dora", "bias_B": "lora_bias"}


@dataclass(slots=True)
class Layer:
    """The tensors of one layer by role; `name` is its canonical path, the component first (`unet.down_blocks.0…`)."""

    name: str
    tensors: dict[str, TensorEntry] = field(default_factory=dict)

    def add(self, role: str, tensor: TensorEntry) -> None:
        """Take a tensor in. Raises InvalidAdapter for a second one in its role."""
        if (other := self.tensors.setdefault(role, tensor)) is not tensor:
            raise InvalidAdapter(tensor.name, f"it says the same as {other.name}")

    @property
    def names(self) -> dict[str, str]:
        """Role -> the tensor's name."""
        return {role: tensor.name for role, tensor in sorted(self.tensors.items())}


def build_lora(layer: Layer, alpha: float | None, *, scaling: float | None = None) -> ModuleSpec:
    """A LoRA layer: A (rank, in[, kernel]), B (out, rank[, 1…]); `scaling` where it isn't alpha / rank.

    Raises InvalidAdapter or RankMismatch naming a tensor.
    """
    a, b = _factors(layer)
    rank = a.shape[0]
    if b.shape[1] != rank:
        raise RankMismatch(b.name, expected=rank, found=b.shape[1])
    if prod(b.shape[2:]) != 1:
        raise UnsupportedAdapter(b.name, f"a kernel of {list(b.shape[2:])}", "only the A factor may have one")
    alpha = checked_alpha(layer, rank if alpha is None else alpha)
    kernel = _kernel(layer, a)
    is_conv = bool(kernel)
    extras = {variant for role, variant in _EXTRAS.items() if role in layer.tensors}
    return ModuleSpec(
        name=layer.name,
        kind="conv" if is_conv else "linear",
        rank=rank,
        alpha=alpha,
        scaling=alpha / rank if scaling is None else scaling,
        in_features=a.shape[1],
        out_features=b.shape[0],
        dtype=a.dtype,
        variants=tuple(sorted(extras | ({"conv"} if is_conv else set()))),
        tensors=layer.names,
        base_shape=(b.shape[0], a.shape[1], *kernel),
    )


def _kernel(layer: Layer, a: TensorEntry) -> tuple[int, ...]:
    """A convolution's kernel: of its A, or of the core between the factors (Tucker form)."""
    core, rank = layer.tensors.get("core"), a.shape[0]
    if core is None:
        return a.shape[2:]
    if len(core.shape) != len(a.shape) or core.shape[:2] != (rank, rank) or prod(a.shape[2:]) != 1:
        raise InvalidAdapter(core.name, f"its shape is {list(core.shape)}; [{rank}, {rank}, kernel] is needed")
    return core.shape[2:]


def _factors(layer: Layer) -> tuple[TensorEntry, TensorEntry]:
    for role in ("A", "B"):
        if role not in layer.tensors:
            first = next(iter(layer.tensors.values()))
            raise InvalidAdapter(first.name, f"the {'down' if role == 'A' else 'up'} factor of this layer is missing")
    a, b = layer.tensors["A"], layer.tensors["B"]
    if len(a.shape) < 2 or len(a.shape) != len(b.shape):
        raise InvalidAdapter(b.name, f"factors of shapes {list(a.shape)} and {list(b.shape)} don't multiply")
    check_floats(layer)
    return a, b


def check_floats(layer: Layer) -> None:
    """Raises InvalidAdapter for a tensor that holds no floating numbers."""
    for tensor in layer.tensors.values():
        if tensor.dtype not in FLOATS:
            raise InvalidAdapter(tensor.name, f"a factor of dtype {tensor.dtype} is not a floating number")


def with_sides(module: ModuleSpec, layer: Layer) -> ModuleSpec:
    """The same with DoRA's magnitudes in their role: `magnitude` has one an output, `magnitude_in` one an input.

    LyCORIS has both, and their shape tells: (out, 1…) or (1, in[, 1…]). Raises InvalidAdapter for any other.
    Source: lycoris-lora 4.1.3, modules/locon.py, wd_on_out.
    """
    magnitude = layer.tensors.get("magnitude")
    if magnitude is None:
        return module
    first, *rest = magnitude.shape
    if first == module.out_features and prod(rest) == 1:
        return module
    if (first, *rest[:1]) != (1, module.base_shape[1]) or prod(rest[1:]) != 1:
        reason = f"its shape is {list(magnitude.shape)}; {module.out_features} outputs or {module.base_shape[1]} inputs"
        raise InvalidAdapter(magnitude.name, f"{reason} would explain it")
    others = {role: name for role, name in module.tensors.items() if role != "magnitude"}
    return replace(module, tensors={**others, "magnitude_in": magnitude.name})


def checked_alpha(layer: Layer, alpha: float) -> float:
    """The alpha of a layer. Raises InvalidAdapter for one that is impossibly large."""
    if not abs(alpha) <= MAX_ALPHA:
        where = layer.tensors.get("alpha") or next(iter(layer.tensors.values()))
        raise InvalidAdapter(where.name, f"its alpha {alpha:g} is no number of at most {MAX_ALPHA:g}")
    return float(alpha)


def summarise(
    modules: Sequence[ModuleSpec], tensors: Sequence[TensorEntry], *, format: str, base_name: str | None
) -> AdapterSummary:
    """The adapter as a whole; `alpha` is the commonest."""
    rank = max(module.rank for module in modules)
    alpha = Counter(module.alpha for module in modules).most_common(1)[0][0]
    variants = {variant for module in modules for variant in module.variants}
    return AdapterSummary(
        format=format,
        peft_type=_kind(modules),
        rank=rank,
        alpha=alpha,
        ranks={module.name: module.rank for module in modules if module.rank != rank},
        targets=tuple(sorted({_target(module.name) for module in modules})),
        variants=tuple(sorted(variants | _patterns(modules))),
        dtype=Counter(module.dtype for module in modules).most_common(1)[0][0],
        parameters=sum(prod(tensor.shape) for tensor in tensors),
        base_name=base_name,
    )


def _kind(modules: Sequence[ModuleSpec]) -> str:
    kinds = {module.kind for module in modules} & {"loha", "lokr"}
    if not kinds:
        return "LORA"
    return "LYCORIS" if len({module.kind for module in modules}) > 1 else kinds.pop().upper()


def _target(name: str) -> str:
    """The last component that says something: `to_out.0` is `to_out`."""
    parts = [part for part in name.split(".") if not part.isdecimal()]
    return parts[-1]


def _patterns(modules: Sequence[ModuleSpec]) -> set[str]:
    differ = {
        "rank_pattern": len({module.rank for module in modules}) > 1,
        "alpha_pattern": len({module.alpha for module in modules}) > 1,
    }
    return {variant for variant, shown in differ.items() if shown}


def printable(metadata: Mapping[str, str], *keys: str) -> str | None:
    """The first of these that says something fit to be shown, or None."""
    for key in keys:
        value = metadata.get(key, "")
        if value and value != "None" and len(value) <= 1024 and value.isprintable():
            return value
    return None
