"""What merging does to a tensor of the base: terms that are added to runs of its rows, before one rounding.

A tensor is a matrix here: its first dimension, or experts and their rows, by everything else. Sums are computed in
float32, and in float64 where DoRA takes part, whose norms are sums themselves. A term sees the rows as they are
stored, and may be asked for any block of them. This room knows no files and no names of adapters.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from composition.low_rank import LowRank

_SAFE = 1e30  # what is added to a finite float32 or bfloat16 of a model without leaving their range


class Addend(Protocol):
    """Something that changes any block of a run's rows, most by adding; `rows` counts from the run's beginning."""

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        """Bring its `rows` into `total`, in place. `stored`: the base's values of these rows."""


class Term(Protocol):
    """Something that is added to a run of rows. It holds no more than it was made of until it is `prepared`."""

    @property
    def bound(self) -> float:
        """No element that it adds is larger than this; infinity where that isn't known."""

    def prepared(self, dtype: torch.dtype) -> Addend:
        """What adds it to sums of a dtype."""


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Adds `left @ right`. left: (rows, rank); right: (rank, width), both of the sum's dtype."""

    left: Tensor
    right: Tensor

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        total.addmm_(self.left[rows], self.right)


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Adds a delta (out, in); `transposed` to a base that stores (in, out). Its factors are float32."""

    delta: LowRank
    transposed: bool

    @property
    def bound(self) -> float:
        return abs(self.delta.scaling) * self.delta.rank * _largest(self.delta.A) * _largest(self.delta.B)

    def prepared(self, dtype: torch.dtype) -> Factors:
        folded = self.delta.folded()
        left, right = (folded.A.T, folded.B.T) if self.transposed else (folded.B, folded.A)
        return Factors(left.float().to(dtype).contiguous(), right.float().to(dtype).contiguous())


@dataclass(frozen=True, slots=True, eq=False)
class Offset:
    """Adds a vector, of one value a row: lora_bias. values: (rows, 1), float32."""

    values: Tensor

    @property
    def bound(self) -> float:
        return _largest(self.values)

    def prepared(self, dtype: torch.dtype) -> "Offset":
        return Offset(self.values.to(dtype))

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        total.add_(self.values[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Replaced:
    """Stands in the place of the rows, before anything is added to them. values: (rows, width), float32."""

    values: Tensor

    @property
    def bound(self) -> float:
        return _largest(self.values)

    def prepared(self, dtype: torch.dtype) -> "Replaced":
        return Replaced(self.values.to(dtype))

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        total.copy_(self.values[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """Multiplies the rows: IA3. factors: (rows, 1), or (1, width), float32."""

    factors: Tensor

    @property
    def bound(self) -> float:
        return math.inf

    def prepared(self, dtype: torch.dtype) -> "Scaled":
        return Scaled(self.factors.to(dtype))

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        total.mul_(self.factors[rows] if len(self.factors) > 1 else self.factors)


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """Adds `weight` times DoRA's delta, `factors * (W + D) - W` with D the direction. Works in float64.

    factors: (rows, 1), or (1, width) for a base that stores (in, out): m / |W + D|, of the whole tensor.
    """

    direction: Product
    factors: Tensor
    weight: float

    @property
    def bound(self) -> float:
        return math.inf

    def prepared(self, dtype: torch.dtype) -> "_RescaledRows":
        return _RescaledRows(self.direction.prepared(torch.float64), self.factors, self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class _RescaledRows:
    direction: Factors
    factors: Tensor
    weight: float

    def add(self, total: Tensor, stored: Tensor, rows: slice) -> None:
        base = stored.double()
        moved = base.clone()
        self.direction.add(moved, stored, rows)
        moved.mul_(self.factors[rows] if len(self.factors) > 1 else self.factors)
        total.add_(moved.sub_(base), alpha=self.weight)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Rows from `start` until before `stop`, and what is added to them."""

    start: int
    stop: int
    terms: tuple[Term, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """All that happens to a tensor. `module` is what errors call it; runs are sorted and don't overlap.

    The tensor is a matrix of rows of `width`. `dtype` is what is summed in. `may_overflow` where the result has to be
    looked at.
    """

    module: str
    width: int
    runs: tuple[Run, ...]
    dtype: torch.dtype
    may_overflow: bool


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """One term of one tensor. `label` is the tensor's; the rows are of `width`."""

    label: str
    module: str
    width: int
    start: int
    stop: int
    term: Term


def changes_of(contributions: Iterable[Contribution]) -> dict[str, Change]:
    """What happens to each tensor {label: change}. Contributions to a tensor have the same runs, or disjoint ones."""
    found: dict[str, dict[tuple[int, int], list[Contribution]]] = {}
    for each in contributions:
        found.setdefault(each.label, {}).setdefault((each.start, each.stop), []).append(each)
    return {label: _change(runs) for label, runs in found.items()}


def _change(found: Mapping[tuple[int, int], list[Contribution]]) -> Change:
    runs = [Run(*rows, _in_order(found[rows])) for rows in sorted(found)]
    terms = [term for run in runs for term in run.terms]
    exact = any(isinstance(term, Rescaled) for term in terms)
    safe = sum(term.bound for term in terms) < _SAFE
    first = next(iter(found.values()))[0]
    dtype = torch.float64 if exact else torch.float32
    return Change(first.module, first.width, tuple(runs), dtype, may_overflow=not safe)


def _in_order(contributions: Iterable[Contribution]) -> tuple[Term, ...]:
    """What replaces rows comes before what is added to them."""
    return tuple(sorted((each.term for each in contributions), key=lambda term: not isinstance(term, Replaced)))


def _largest(values: Tensor) -> float:
    """The largest magnitude; NaN if there is one."""
    return float(torch.stack(values.aminmax()).abs().max()) if values.numel() else 0.0
