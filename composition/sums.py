"""A weighted sum of deltas as they are stored, in half precision or not: what a blend of adapters mostly asks for.

Norm, spectrum, the parents' inner products and a truncation all follow from one pair of Gram matrices, in float64, of
the stored factors side by side. The exact sum is written from these factors themselves, each number multiplied once and
rounded once. Other sums, of methods' results or of matrices, are `low_rank`'s.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from composition.grams import Grams
from composition.low_rank import LowRank, Truncation, concatenate, cut, distance
from composition.small_core import Basis, Core, by_grams, by_householder
from composition.threads import one_thread

_ORDINARY = 2.0**32  # larger scalings, and smaller ones than its reciprocal, take both factors to hold (see `folded`)


@dataclass(frozen=True, slots=True, eq=False)
class StoredSum:
    """The sum of `terms`, whose scalings have the weights in them.

    A: (rank, in) and B: (out, rank), the factors side by side without scalings; columns: (rank,), the scaling of each,
    in float64. `plain` are the Gram matrices of those factors, `grams` those of the sum.
    """

    terms: tuple[LowRank, ...]
    A: Tensor
    B: Tensor
    columns: Tensor
    plain: Grams
    grams: Grams

    @classmethod
    @one_thread()
    def of(cls, terms: Sequence[LowRank]) -> Self:
        """Terms of one shape, on a CPU, for which `fits`."""
        a, b = torch.cat([term.A for term in terms]), torch.cat([term.B for term in terms], dim=1)
        columns = torch.tensor([term.scaling for term in terms for _ in range(term.rank)], dtype=torch.float64)
        plain = Grams.of([b], [a.T])
        return cls(tuple(terms), a, b, columns, plain, plain.scaled(columns))

    @property
    def rank(self) -> int:
        return len(self.columns)

    @one_thread()
    def norm(self) -> float:
        """The Frobenius norm, exact to float64 also when terms cancel."""
        known = self.grams.norm()
        return float(torch.linalg.matrix_norm(self._householder().matrix)) if known is None else known

    @one_thread()
    def spectrum(self) -> Tensor:
        """The singular values, largest first; what is noise to Gram matrices is 0."""
        return self.grams.singular_values()

    @one_thread()
    def truncated(self, choose: Callable[[Tensor], int]) -> Truncation:
        """The best approximation, of the rank that `choose` takes from the singular values; see `low_rank.truncate`."""
        return cut(self._core(), choose, rank=self.rank, exact=self.folded)

    def _core(self) -> Core:
        core = by_grams(self.B, self.A.T, 1.0, self.grams)
        if core is None or core.left.small is None:
            return self._householder()
        return replace(core, left=Basis(self.B, self.columns[:, None] * core.left.small))

    def _householder(self) -> Core:
        return by_householder(self.B.double() * self.columns, self.A.T, 1.0)

    def folded(self) -> LowRank:
        """The exact sum in float32: ranks add up, and B takes the scalings."""
        return concatenate([term.widened() for term in self.terms]).folded()

    @one_thread()
    def stored(self, dtype: torch.dtype) -> tuple[LowRank, float]:
        """The exact sum in a dtype, both factors' columns of nearly equal length, and the norm of what that changed.

        Numbers that the dtype can't hold are infinite in it.
        """
        if dtype == torch.float32:
            return self.folded(), 0.0
        powers = self._powers()
        numbers = self.columns * powers
        if dtype != torch.bfloat16 or self.A.dtype != dtype:
            exact = LowRank((self.A.double() / powers[:, None]).float(), (self.B.double() * numbers).float())
            delta = LowRank(exact.A.to(dtype), exact.B.to(dtype))
            return delta, distance(exact, delta)
        a = self.A * powers.reciprocal().to(dtype)[:, None]  # exact: the dtype has float32's range
        if torch.equal(numbers.frexp().mantissa.abs(), torch.full_like(numbers, 0.5)):
            return LowRank(a, self.B * numbers.to(dtype)), 0.0
        b = (self.B.double() * numbers).float()
        rounded = b.to(dtype)
        change = b - rounded
        energy = (change.T @ change) * (self.plain.right / powers[:, None] / powers)
        return LowRank(a, rounded), math.sqrt(max(0.0, float(energy.sum())))

    def _powers(self) -> Tensor:
        """Powers of two that bring each pair of columns to nearly equal length: B's are multiplied, A's divided."""
        a, b = self.grams.right.diagonal().sqrt(), self.grams.left.diagonal().sqrt()
        exponent = torch.where((a > 0) & (b > 0), ((a / b).log2() / 2).round(), torch.zeros_like(a))
        return torch.exp2(exponent)


def fits(terms: Sequence[LowRank]) -> bool:
    """Whether a sum of terms of one shape goes this way: of less than full rank, and of ordinary scalings."""
    ordinary = all(1 / _ORDINARY <= abs(term.scaling) <= _ORDINARY for term in terms)
    return ordinary and 0 < sum(term.rank for term in terms) < min(terms[0].shape)
