"""LyCORIS layers in kohya's files: LoHa and LoKr by their shapes, and every other algorithm refused by its name.

    hada_w1_a (out, r)  hada_w1_b (r, in)                 LoHa: (w1_a w1_b) ∘ (w2_a w2_b) · alpha / r
    hada_w2_a (out, r)  hada_w2_b (r, in)
    lokr_w1 (p, q)  or lokr_w1_a (p, r)  lokr_w1_b (r, q) LoKr: w1 ⊗ w2 · alpha / r, (p·s, q·t); where both are whole
    lokr_w2 (s, t…) or lokr_w2_a (s, r)  lokr_w2_b (r, t)       there is no rank, and alpha is not applied

A convolution's kernel is folded into `in` and `t`, or stands behind them.

Source: lycoris-lora 4.1.3, modules/loha.py, modules/lokr.py and functional/lokr.py (rank_scale).
"""

from math import prod

from registry.domain.errors import InvalidAdapter, RankMismatch
from registry.domain.spec import ModuleSpec, TensorEntry
from registry.formats.layers import Layer, check_floats, checked_alpha

LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b")
ROLES = (*LOHA, *LOKR)

# The end of a tensor's name -> what it is, for tensors that are known and can't be kept exactly.
REFUSED = {
    "lora_mid.weight": "a LoCon in Tucker form (lora_mid)",
    "hada_t1": "a LoHa in Tucker form (hada_t1)",
    "hada_t2": "a LoHa in Tucker form (hada_t2)",
    "lokr_t1": "a LoKr in Tucker form (lokr_t1)",
    "lokr_t2": "a LoKr in Tucker form (lokr_t2)",
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
    kinds = [kind for kind in (LOHA, LOKR) if any(role in layer.tensors for role in kind)]
    if mixed or len(kinds) > 1:
        first = next(iter(layer.tensors.values()))
        raise InvalidAdapter(first.name, "the layer has the factors of two kinds of adapter")
    return _loha(layer, alpha) if kinds[0] is LOHA else _lokr(layer, alpha)


def _loha(layer: Layer, alpha: float | None) -> ModuleSpec:
    a1, b1, a2, b2 = (_matrix(layer, role) for role in LOHA)
    rank = b1.shape[0]
    for tensor, found in ((a1, a1.shape[1]), (a2, a2.shape[1]), (b2, b2.shape[0])):
        if found != rank:
            raise RankMismatch(tensor.name, expected=rank, found=found)
    shape = (a1.shape[0], b1.shape[1])
    if (a2.shape[0], b2.shape[1]) != shape:
        raise InvalidAdapter(a2.name, f"the two products have shapes {list(shape)} and {[a2.shape[0], b2.shape[1]]}")
    return _spec(layer, "loha", rank, alpha=alpha, shape=shape)


def _lokr(layer: Layer, alpha: float | None) -> ModuleSpec:
    (p, q), rank_1 = _side(layer, "lokr_w1")
    (s, *t), rank_2 = _side(layer, "lokr_w2")
    if rank_1 and rank_2 and rank_1 != rank_2:
        raise RankMismatch(layer.tensors["lokr_w2_b"].name, expected=rank_1, found=rank_2)
    rank = rank_1 or rank_2
    return _spec(layer, "lokr", rank, alpha=alpha if rank else 0.0, shape=(p * s, q * t[0], *t[1:]))


def _side(layer: Layer, name: str) -> tuple[tuple[int, ...], int]:
    """Shape and rank of w1 or w2; rank 0 where it is whole."""
    whole = layer.tensors.get(name)
    if whole is None:
        a, b = _matrix(layer, f"{name}_a"), _matrix(layer, f"{name}_b")
        if a.shape[1] != b.shape[0]:
            raise RankMismatch(b.name, expected=a.shape[1], found=b.shape[0])
        return (a.shape[0], b.shape[1]), b.shape[0]
    for factor in (f"{name}_a", f"{name}_b"):
        if factor in layer.tensors:
            raise InvalidAdapter(layer.tensors[factor].name, f"it says the same as {whole.name}")
    if len(whole.shape) < 2 or (name == "lokr_w1" and len(whole.shape) != 2):
        raise InvalidAdapter(whole.name, f"its shape {list(whole.shape)} is not that of a matrix")
    return whole.shape, 0


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
