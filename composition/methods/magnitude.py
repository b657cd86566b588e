"""Magnitude pruning: keep each delta's largest elements, and add.

    λ · Σ_i w_i Δ̂_i,  Δ̂_i = Δ_i where |Δ_i| is among its ⌊density · size⌋ largest, else 0

The trimming of TIES (arXiv 2306.01708) without its election; PEFT calls it magnitude_prune_svd.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import added
from composition.methods.method import Input, number, weighted, weights_of, whole
from composition.methods.ties import trimmed, trimming
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value


def magnitude(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by magnitude pruning. Parameters: density, lambda, rank."""
    deltas = TrueDeltas([item.delta for item in inputs])
    least = trimming(deltas, number(params, "density"))
    factor = number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        return added(weighted(trimmed(tile.values, least), weights_of(inputs))).mul_(factor)

    return deltas.fit(merge, whole(params, "rank"))
