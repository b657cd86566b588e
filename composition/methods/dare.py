"""DARE: drop elements at random and rescale the rest, then add them (linear) or merge them by TIES's election (ties).

    m_i ~ Bernoulli(p),  Δ̃_i = (1 - m_i) ⊙ Δ_i,  Δ̂_i = Δ̃_i / (1 - p)

p is `drop`. The masks are functions of (seed, module, what the input is, row, column) and of nothing else.
Source: Yu et al. 2023, arXiv 2311.03099, equation 2.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import Consensus, added
from composition.methods.method import Input, number, weighted, weights_of, whole
from composition.sparsify import uniform
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value


def dare_linear(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Add what is left. Parameters: drop, rescale, lambda, seed, rank."""
    factor = number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        return added(weighted(dropped(tile, inputs, params), weights_of(inputs))).mul_(factor)

    return TrueDeltas([item.delta for item in inputs]).fit(merge, whole(params, "rank"))


def dare_ties(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge what is left where signs agree. Parameters: as dare_linear, and sign, elect, normalise."""
    rule, factor = Consensus.of(params), number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        return rule.merged(dropped(tile, inputs, params), weights_of(inputs)).mul_(factor)

    return TrueDeltas([item.delta for item in inputs]).fit(merge, whole(params, "rank"))


def dropped(tile: Tile, inputs: Sequence[Input], params: Mapping[str, Value]) -> Tensor:
    """The tile with elements dropped at random, the others rescaled unless `rescale` is no; in place."""
    kept = 1.0 - number(params, "drop")
    for part, item in zip(tile.values, inputs, strict=True):
        part.mul_(are_below(numbers(tile, item, params), kept))
    return tile.values.div_(kept) if kept and params["rescale"] == "yes" else tile.values


def are_below(values: Tensor, bounds: Tensor | float) -> Tensor:
    """1 where a value is below its bound and 0 elsewhere, in place: comparing takes several times as long."""
    return values.neg_().add_(bounds).sign_().clamp_(min=0)


def numbers(tile: Tile, item: Input, params: Mapping[str, Value]) -> Tensor:
    """An input's random numbers for the tile, uniform in [0, 1)."""
    rows, columns = tile.values.shape[1:]
    seed = whole(params, "seed") or 0
    return uniform(item.stream, seed, start=tile.start, shape=(rows, columns), device=tile.values.device)
