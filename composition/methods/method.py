"""What a method is to the engine: weighted inputs and options in, one low-rank delta out.

A method sees one module at a time. An input without that module comes as a delta of rank 0, which is a delta of zeros.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from composition.low_rank import LowRank, Truncation
from registry.domain.method import Value


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """`weight * delta`. `stream` names the module and what the delta came from: where random masks are keyed."""

    weight: float
    delta: LowRank
    stream: int = 0

    @property
    def scaled(self) -> LowRank:
        return self.delta.scaled(self.weight)


Method = Callable[[Sequence[Input], Mapping[str, Value]], Truncation]
"""`norm` is that of the method's own result, `error` of what bringing it to its rank took away: 0 for exact methods."""


def exact(delta: LowRank) -> Truncation:
    """The answer of a method whose result is of low rank by itself."""
    return Truncation(delta, delta.norm(), 0.0)


def number(params: Mapping[str, Value], name: str) -> float:
    """A parameter that is a number."""
    value = params[name]
    assert isinstance(value, int | float)
    return float(value)


def whole(params: Mapping[str, Value], name: str) -> int | None:
    """A parameter that is a whole number, or None where an optional one is absent."""
    value = params.get(name)
    assert value is None or isinstance(value, int)
    return value


def weighted(values: Tensor, weights: Iterable[float]) -> Tensor:
    """Each input's values times its weight, in place. values: (inputs, …)."""
    for part, weight in zip(values, weights, strict=True):
        if weight != 1.0:
            part.mul_(weight)
    return values


def weights_of(inputs: Sequence[Input]) -> list[float]:
    return [item.weight for item in inputs]
