"""TIES-Merging: trim, elect signs, merge what agrees.

    trim    Δ̂_i = Δ_i where |Δ_i| is among its k largest, k = ⌊density · size⌋, else 0
    elect   γ = sgn(Σ_i w_i Δ̂_i), element by element
    merge   λ · mean of w_i Δ̂_i over the inputs with sgn(w_i Δ̂_i) = γ

On the true delta of each module, then brought to a rank. The paper trims a whole model at once and tunes λ.
Source: Yadav et al. 2023, arXiv 2306.01708, algorithm 1.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import Consensus
from composition.methods.method import Input, number, weights_of, whole
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value


def ties(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by TIES. Parameters: density, sign, elect, normalise, lambda, rank."""
    deltas = TrueDeltas([item.delta for item in inputs])
    least = trimming(deltas, number(params, "density"))
    rule, factor = Consensus.of(params), number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        return rule.merged(trimmed(tile.values, least), weights_of(inputs)).mul_(factor)

    return deltas.fit(merge, whole(params, "rank"))


def trimming(deltas: TrueDeltas, density: float) -> list[float]:
    """The least magnitude that each input keeps."""
    return deltas.thresholds(int(density * deltas.size))


def trimmed(values: Tensor, least: Sequence[float]) -> Tensor:
    """Values of at least each input's magnitude, and 0 for the others, in place. values: (inputs, …), float32."""
    for part, bound in zip(values, below(least), strict=True):
        torch.hardshrink(part, bound, out=part)
    return values


def below(least: Sequence[float]) -> list[float]:
    """The next smaller number to each in float32, for `hardshrink`, which drops what is equal."""
    bounds = torch.tensor(least)
    smaller: list[float] = torch.nextafter(bounds, torch.full_like(bounds, -math.inf)).tolist()
    return smaller
