"""A weighted sum of deltas as they are stored, in half precision or not: what a blend of adapters mostly asks for.

Factors are turned into float64 once, side by side. Norm, spectrum, the parents' inner products and a truncation all
follow from that copy and its Gram matrices; the exact sum is written from the stored factors themselves, each number
multiplied in float32 and rounded once. Other sums, of methods' results or of matrices, are `low_rank`'s.
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

_LARGEST = 1 << 28  # bytes of factors in float64; what takes more is computed block by block
_ORDINARY = 2.0**32  # larger scalings, and smaller ones than its reciprocal, take both factors to hold (see `folded`)


@dataclass(frozen=True, slots=True, eq=False)
class StoredSum:
    """The sum of `terms`, whose scalings have the weights in them.

    left: (out, rank) and right: (in, rank), the factors side by side in float64, without scalings; columns: (rank,),
    the scaling of each. `plain` are the Gram matrices of those factors, `grams` those of the sum.
    """

    terms: tuple[LowRank, ...]
    left: Tensor
    right: Tensor
    columns: Tensor
    plain: Grams
    grams: Grams

    @classmethod
    @one_thread()
    def of(cls, terms: Sequence[LowRank]) -> Self:
        """Terms of one shape, on a CPU, for which `fits`."""
        left = torch.cat([term.B for term in terms], dim=1).double()
        right = torch.cat([term.A for term in terms]).double()
        columns = torch.tensor([term.scaling for term in terms for _ in range(term.rank)], dtype=torch.float64)
        plain = Grams(left.T @ left, right @ right.T)
        return cls(tuple(terms), left, right.T, columns, plain, plain.scaled(columns))

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
        core = by_grams(self.left, self.right, 1.0, self.grams)
        if core is None or core.left.small is None:
            return self._householder()
        return replace(core, left=Basis(self.left, self.columns[:, None] * core.left.small))

    def _householder(self) -> Core:
        return by_householder(self.left * self.columns, self.right, 1.0)

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
        exact = LowRank((self.right.T / powers[:, None]).float(), (self.left * numbers).float())
        delta = LowRank(exact.A.to(dtype), exact.B.to(dtype))
        if dtype != torch.bfloat16 or any(term.A.dtype != dtype for term in self.terms):
            return delta, distance(exact, delta)
        if torch.equal(numbers.frexp().mantissa.abs(), torch.full_like(numbers, 0.5)):
            return delta, 0.0  # powers of two times what is stored, which has float32's range
        change = exact.B - delta.B.float()
        return delta, math.sqrt(float(((change.T @ change) * (self.plain.right / powers[:, None] / powers)).sum()))

    def _powers(self) -> Tensor:
        """Powers of two that bring each pair of columns to nearly equal length: B's are multiplied, A's divided."""
        a, b = self.grams.right.diagonal().sqrt(), self.grams.left.diagonal().sqrt()
        exponent = torch.where((a > 0) & (b > 0), ((a / b).log2() / 2).round(), torch.zeros_like(a))
        return torch.exp2(exponent)


def fits(terms: Sequence[LowRank]) -> bool:
    """Whether a sum of terms of one shape goes this way: less than full rank, ordinary scalings, bounded memory."""
    out, inside = terms[0].shape
    rank = sum(term.rank for term in terms)
    return (
        0 < rank < min(out, inside)
        and 8 * rank * (out + inside) <= _LARGEST
        and all(1 / _ORDINARY <= abs(term.scaling) <= _ORDINARY for term in terms)
    )
