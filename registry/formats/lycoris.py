"""LyCORIS layers in kohya's files: LoHa and LoKr by their shapes, and every other algorithm refused by its name.

    hada_w1_a (out, r)  hada_w1_b (r, in)                 LoHa: (w1_a w1_b) ∘ (w2_a w2_b) · alpha / r
    hada_w2_a (out, r)  hada_w2_b (r, in)
    lokr_w1 (p, q)  or lokr_w1_a (p, r)  lokr_w1_b (r, q) LoKr: w1 ⊗ w2 · alpha / r, (p·s, q·t); where both are whole
    lokr_w2 (s, t…) or lokr_w2_a (s, r)  lokr_w2_b (r, t)       there is no rank, and alpha is not applied

A convolution's kernel is folded into `in` and `t`, or stands behind them. In Tucker form it has a core of its own,
hada_t1, hada_t2 or lokr_t2 (r, r, kernel), between factors (r, out) and (r, in).

Source: lycoris-lora 4.1.3, modules/loha.py, modules/lokr.py, functional/lokr.py (rank_scale) and
functional/general.py (rebuild_tucker).
"""

from math import prod

from registry.domain.errors import InvalidAdapter, RankMismatch
from registry.domain.spec import ModuleSpec, TensorEntry
from registry.formats.layers import Layer, check_floats, checked_alpha

LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
_KINDS = {"loha": (*LOHA, "hada_t1", "hada_t2"), "lokr": (*LOKR, "lokr_t2")}
ROLES = tuple(role for roles in _KINDS.values() for role in roles)

# The end of a tensor's name -> what it is, for tensors that are known and can't be kept exactly.
REFUSED = {
    "lokr_t1": "a LoKr with a core in w1 (lokr_t1)",
    "diff": "a full difference (diff)",
    "diff_b": "a bias difference (diff_b)",
    "w_norm": "a norm's difference (w_norm)",
    "b_norm": "a norm's difference (b_norm)",
    "weight": "an IA3 (weight)",
    "on_input": "an IA3 (on_input)",
    "oft_blocks": "an OFT (oft_blocks)",
    "oft_diag": "an OFT (oft_diag)",
    "a1.weight": "a GLoRA (a1)",
    "a2.weight": "a GLoRA (a2)",
    "b1.weight": "a GLoRA (b1)",
    "b2.weight": "a GLoRA (b2)",
    "bias_indices": "a sparse bias (bias_indices)",
    "bias_values": "a sparse bias (bias_values)",
    "bias_size": "a sparse bias (bias_size)",
}


def is_lycoris(layer: Layer) -> bool:
    """Whether the layer is a LoHa or a LoKr."""
    return any(role in layer.tensors for role in ROLES)


def build_lycoris(layer: Layer, alpha: float | None) -> ModuleSpec:
    """A LoHa or LoKr layer. Raises InvalidAdapter or RankMismatch naming a tensor."""
    check_floats(layer)
    mixed = [role for role in ("A", "B") if role in layer.tensors]
    kinds = [kind for kind, roles in _KINDS.items() if any(role in layer.tensors for role in roles)]
    if mixed or len(kinds) > 1:
        first = next(iter(layer.tensors.values()))
        raise InvalidAdapter(first.name, "the layer has the factors of two kinds of adapter")
    return _loha(layer, alpha) if kinds == ["loha"] else _lokr(layer, alpha)


def _loha(layer: Layer, alpha: float | None) -> ModuleSpec:
    shape, rank = _product(layer, "hada_w1", "hada_t1")
    other, found = _product(layer, "hada_w2", "hada_t2")
    if found != rank:
        raise RankMismatch(layer.tensors["hada_w2_a"].name, expected=rank, found=found)
    if other != shape:
        reason = f"the two products have shapes {list(shape)} and {list(other)}"
        raise InvalidAdapter(layer.tensors["hada_w2_a"].name, reason)
    return _spec(layer, "loha", rank, alpha=alpha, shape=shape)


def _lokr(layer: Layer, alpha: float | None) -> ModuleSpec:
    (p, q, *_), rank_1 = _side(layer, "lokr_w1")
    (s, *t), rank_2 = _side(layer, "lokr_w2")
    if rank_1 and rank_2 and rank_1 != rank_2:
        raise RankMismatch(layer.tensors["lokr_w2_b"].name, expected=rank_1, found=rank_2)
    rank = rank_1 or rank_2
    return _spec(layer, "lokr", rank, alpha=alpha if rank else 0.0, shape=(p * s, q * t[0], *t[1:]))


def _side(layer: Layer, name: str) -> tuple[tuple[int, ...], int]:
    """Shape and rank of w1 or w2; rank 0 where it is whole."""
    whole, core = layer.tensors.get(name), name.replace("_w", "_t")
    if whole is None:
        return _product(layer, name, core)
    for factor in (f"{name}_a", f"{name}_b", core):
        if factor in layer.tensors:
            raise InvalidAdapter(layer.tensors[factor].name, f"it says the same as {whole.name}")
    if len(whole.shape) < 2 or (name == "lokr_w1" and len(whole.shape) != 2):
        raise InvalidAdapter(whole.name, f"its shape {list(whole.shape)} is not that of a matrix")
    return whole.shape, 0


def _product(layer: Layer, name: str, core: str) -> tuple[tuple[int, ...], int]:
    """Shape and rank of a product of two factors, or of two and the core between them."""
    a, b = _matrix(layer, f"{name}_a"), _matrix(layer, f"{name}_b")
    middle, rank = layer.tensors.get(core), b.shape[0]
    found, out = (a.shape[1], a.shape[0]) if middle is None else a.shape
    if found != rank:
        raise RankMismatch(a.name, expected=rank, found=found)
    if middle is None:
        return (out, b.shape[1]), rank
    if len(middle.shape) < 3 or middle.shape[:2] != (rank, rank):
        raise InvalidAdapter(middle.name, f"its shape is {list(middle.shape)}; [{rank}, {rank}, kernel] is needed")
    return (out, b.shape[1], *middle.shape[2:]), rank


def _matrix(layer: Layer, role: str) -> TensorEntry:
    tensor = layer.tensors.get(role)
    if tensor is None:
        first = next(iter(layer.tensors.values()))
        raise InvalidAdapter(first.name, f"the {role} of this layer is missing")
    if len(tensor.shape) != 2:
        raise InvalidAdapter(tensor.name, f"its shape {list(tensor.shape)} is not that of a matrix")
    return tensor


def _spec(layer: Layer, kind: str, rank: int, *, alpha: float | None, shape: tuple[int, ...]) -> ModuleSpec:
    alpha = checked_alpha(layer, rank if alpha is None else alpha)
    factor = next(tensor for role, tensor in layer.tensors.items() if role in ROLES)
    dora = {"dora"} if "magnitude" in layer.tensors else set()
    return ModuleSpec(
        name=layer.name,
        kind=kind,
        rank=rank,
        alpha=alpha,
        scaling=alpha / rank if rank else 1.0,
        in_features=prod(shape[1:]),
        out_features=shape[0],
        dtype=factor.dtype,
        variants=tuple(sorted({kind} | dora)),
        tensors=layer.names,
        base_shape=shape,
    )
