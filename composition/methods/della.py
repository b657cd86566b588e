"""DELLA: as DARE with TIES's election, but small elements are likelier to be dropped.

Within each row of a delta, elements are ranked by magnitude: r = 0 for the largest of n, n - 1 for the smallest.

    p_r = p - ε/2 + ε · r / (n - 1),  kept with chance 1 - p_r, then divided by it

p is `drop`, ε is `epsilon`. Chances are clamped to 0 and 1. Then elect signs and merge, times λ.
Source: Deep, Bhardwaj and Poria 2024, arXiv 2406.11617, section 3.1 (MagPrune) to 3.3.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import Consensus
from composition.methods.dare import numbers
from composition.methods.method import Input, number, weights_of, whole
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value


def della(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by DELLA. Parameters: drop, epsilon, rescale, sign, elect, normalise, lambda, seed, rank."""
    rule, factor = Consensus.of(params), number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        values = torch.stack([_pruned(tile, index, item, params) for index, item in enumerate(inputs)])
        return rule.merged(values, weights_of(inputs)).mul_(factor)

    deltas = TrueDeltas([item.delta for item in inputs], portable=True)  # ranks of near ties decide on masks
    return deltas.fit(merge, whole(params, "rank"))


def _pruned(tile: Tile, index: int, item: Input, params: Mapping[str, Value]) -> Tensor:
    values = tile.values[index]
    chances = chances_to_stay(values, number(params, "drop"), number(params, "epsilon"))
    kept = numbers(tile, item, params) < chances
    scale = chances if params["rescale"] == "yes" else torch.ones_like(chances)
    return torch.where(kept, values / torch.where(kept, scale, 1), 0).float()


def chances_to_stay(values: Tensor, drop: float, epsilon: float) -> Tensor:
    """1 - p_r for each element, float64; equal magnitudes in a row are ranked by their column. values: (rows, n)."""
    last = max(values.shape[1] - 1, 1)
    order = values.abs().argsort(dim=1, descending=True, stable=True)
    places = torch.arange(values.shape[1], dtype=torch.float64, device=values.device).expand_as(order)
    ranks = torch.empty_like(places, memory_format=torch.contiguous_format).scatter_(1, order, places)
    return (1.0 - (drop - epsilon / 2 + epsilon * ranks / last)).clamp(0, 1)
