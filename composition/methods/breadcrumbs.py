"""Model Breadcrumbs: drop the largest elements of each delta as outliers and the smallest as noise, and add.

    λ · Σ_i w_i m_i ⊙ Δ_i,  m_i = 0 for the ⌊γ · size⌋ largest, and for the smallest until ⌊density · size⌋ are left

If density + γ is above 1, fewer of the largest are dropped.
Source: Davari and Belilovsky 2023, arXiv 2312.06795, section 3 (there β and γ are the two percentiles).
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import added
from composition.methods.method import Input, number, weighted, weights_of, whole
from composition.methods.ties import trimmed
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value


def breadcrumbs(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by Breadcrumbs. Parameters: density, gamma, lambda, rank."""
    deltas = TrueDeltas([item.delta for item in inputs])
    kept, outliers = counts(deltas.size, number(params, "density"), number(params, "gamma"))
    least, outlying = deltas.thresholds(kept + outliers), deltas.thresholds(outliers)
    factor = number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        largest = trimmed(tile.values.clone(), outlying)
        values = trimmed(tile.values, least).sub_(largest)
        return added(weighted(values, weights_of(inputs))).mul_(factor)

    return deltas.fit(merge, whole(params, "rank"))


def counts(size: int, density: float, gamma: float) -> tuple[int, int]:
    """How many elements are kept, and how many of the largest are dropped."""
    kept = int(density * size)
    return kept, min(int(gamma * size), size - kept)
