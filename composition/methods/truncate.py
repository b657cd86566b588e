"""How much of a delta a truncation keeps: a rank, or the least rank that meets a rule. σ_1 ≥ σ_2 ≥ … are the values.

    rank           at most so many values; beside another rule, its upper bound
    energy         least k with Σ_{i≤k} σ_i² ≥ energy · Σ σ_i²
    error          least k with Σ_{i>k} σ_i² ≤ error² · Σ σ_i²
    sv_ratio       the k values with σ_i > σ_1 / sv_ratio
    sv_cumulative  least k with Σ_{i≤k} σ_i ≥ sv_cumulative · Σ σ_i
    sv_fro         least k with Σ_{i≤k} σ_i² ≥ sv_fro² · Σ σ_i²

The last three are kohya's; k is at least 1, except for a delta of zeros, which keeps nothing.
Source: Eckart and Young 1936; kohya-ss/sd-scripts, networks/resize_lora.py, index_sv_* and rank_resize.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from composition.grams import Grams
from composition.low_rank import LowRank, Truncation, truncate, truncate_by, truncate_together
from composition.methods.method import number, whole
from composition.sums import StoredSum
from composition.whole import matrix_of, truncate_matrix, truncate_matrix_by, truncate_matrix_within
from registry.domain.method import Value


def truncated(delta: LowRank, params: Mapping[str, Value], grams: Grams | None = None) -> Truncation:
    """The best approximation by a rule. Parameters: rank, energy, error, sv_ratio, sv_cumulative, sv_fro."""
    rank, matrix = _fixed_rank(params), _matrix(delta)
    if matrix is None or (rank is not None and delta.rank <= rank):
        return truncate_by(delta, _choice(params), grams) if rank is None else truncate(delta, rank, grams)
    if rank is not None:
        return truncate_matrix(matrix, rank)
    loss = _loss(params)
    if loss is None:
        return truncate_matrix_by(matrix, _choice(params))
    return truncate_matrix_within(matrix, loss, whole(params, "rank"), _choice(params))


def truncated_sum(total: StoredSum, params: Mapping[str, Value]) -> Truncation | None:
    """The same for a sum of stored deltas; None where its rank is small enough without asking for its values."""
    rank = _fixed_rank(params)
    return None if rank is not None and total.rank <= rank else total.truncated(_choice(params))


def truncated_together(deltas: Sequence[LowRank], params: Mapping[str, Value]) -> list[Truncation]:
    """The same for many deltas, those of one shape and rank at once; for a GPU."""
    rank, alike = _fixed_rank(params), defaultdict[tuple[tuple[int, int], int], list[int]](list)
    for index, delta in enumerate(deltas):
        alike[delta.shape, delta.rank].append(index)
    found: dict[int, Truncation] = {}
    for places in alike.values():
        group = [deltas[place] for place in places]
        if group[0].rank == min(group[0].shape) or (rank is not None and group[0].rank <= rank):
            found |= zip(places, (truncated(delta, params) for delta in group), strict=True)
        else:
            found |= zip(places, truncate_together(group, _choice(params)), strict=True)
    return [found[index] for index in range(len(deltas))]


def _matrix(delta: LowRank) -> Tensor | None:
    """The matrix of a delta that is one, see `whole`."""
    return matrix_of(delta) if delta.rank == min(delta.shape) and delta.scaling == 1.0 else None


def _fixed_rank(params: Mapping[str, Value]) -> int | None:
    """The rank, if nothing else is asked for."""
    return None if any(name in params for name in _RULES) else whole(params, "rank")


def _loss(params: Mapping[str, Value]) -> float | None:
    """The share of the squared norm that a rule of energies may lose."""
    if "error" in params:
        return number(params, "error") ** 2
    if "sv_fro" in params:
        return 1 - number(params, "sv_fro") ** 2
    return 1 - number(params, "energy") if "energy" in params else None


def _choice(params: Mapping[str, Value]) -> Callable[[Tensor], int]:
    rank = whole(params, "rank")
    rule = next((name for name in _RULES if name in params), None)
    if rule is None:
        return lambda values: rank or len(values)
    target = number(params, rule)
    return lambda values: min(_RULES[rule](values, target), rank or len(values))


def _ratio(values: Tensor, ratio: float) -> int:
    return max(1, int((values > values[0] / ratio).sum()))


def _least(sums: Tensor, target: float) -> int:
    """The least k with sums[k - 1] >= target * the last sum, all of them if rounding leaves none."""
    return min(int(torch.searchsorted(sums, target * sums[-1])) + 1, len(sums))


def _least_energy(values: Tensor, share: float) -> int:
    return _least(values.square().cumsum(0), share)


def _least_rank(values: Tensor, error: float) -> int:
    """Summed from the smallest value on, so that small errors aren't lost beside the whole."""
    left = values.square().flip(0).cumsum(0)
    return max(1, len(values) - int((left <= error**2 * left[-1]).sum()))


_RULES: Mapping[str, Callable[[Tensor, float], int]] = {
    "energy": _least_energy,
    "error": _least_rank,
    "sv_ratio": _ratio,
    "sv_cumulative": lambda values, share: _least(values.cumsum(0), share),
    "sv_fro": lambda values, share: _least_energy(values, share**2),
}
