"""SCE: select, calculate, erase.

    select      keep the ⌊density · n⌋ elements where the inputs vary most, n = elements that vary at all
    calculate   c_i = Σ of squares of what is left of input i, per module
    erase       drop elements whose sign isn't that of Σ_i Δ̂_i; an even vote keeps nothing
    merge       λ · Σ c_i Δ̂_i / Σ c_i over what is left

An input's own weight is multiplied in first, so that c_i counts its square.
Source: Wan et al. 2024 (FuseChat), arXiv 2408.07990, section 3.3.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from composition.low_rank import Truncation
from composition.methods.consensus import Consensus, added, one_for_zero
from composition.methods.method import Input, number, whole
from composition.methods.ties import below
from composition.sparsify import thresholds
from composition.true_delta import Tile, TrueDeltas
from registry.domain.method import Value

_RULE = Consensus("total", "weighted", "none")


def sce(inputs: Sequence[Input], params: Mapping[str, Value]) -> Truncation:
    """Merge by SCE. Parameters: density, lambda, rank."""
    deltas = TrueDeltas([item.scaled for item in inputs])
    least = _least_variance(deltas, number(params, "density"))
    energies = sum(_selected(tile.values, least).double().square().sum((1, 2)) for tile in deltas.blocks())
    factor = number(params, "lambda")

    def merge(tile: Tile) -> Tensor:
        return factor * _averaged(_selected(tile.values, least), torch.as_tensor(energies))

    return deltas.fit(merge, whole(params, "rank"))


def _least_variance(deltas: TrueDeltas, density: float) -> float:
    varying = sum(int(variance(values).count_nonzero()) for values in deltas.values())

    def variances() -> Iterator[Tensor]:
        for values in deltas.values():
            yield variance(values)[None]

    return thresholds(variances, [int(density * varying)])[0]


def variance(values: Tensor) -> Tensor:
    """Of each element between inputs, their mean square distance from the mean. values: (inputs, …)."""
    mean = added(values).div_(len(values))
    return added((values - mean).square_()).div_(len(values))


def _selected(values: Tensor, least: float) -> Tensor:
    """Values where the inputs vary at least so much, and 0 elsewhere, in place."""
    return values.mul_(torch.hardshrink(variance(values), *below([least])).sign_())


def _averaged(values: Tensor, energies: Tensor) -> Tensor:
    """The mean of what agrees in sign, by energy. values: (inputs, rows, columns), overwritten; energies: (inputs,)."""
    elected = _RULE.elected(values)
    share = (energies / energies.sum().clamp(min=torch.finfo(torch.float64).tiny)).float().view(-1, 1, 1)
    agreeing = values.mul_(elected).clamp_(min=0)
    divisor = one_for_zero(added(agreeing.sign().mul_(share)))
    return added(agreeing.mul_(share)).mul_(elected).div_(divisor)
