"""LowRank: a weight delta as two factors, and its exact algebra.

Adding, subtracting, scaling and interpolating concatenate ranks and are exact. The rank is reduced only by `truncate`,
through a core of at most rank x rank (`small_core`); the full out x in matrix is never formed. Factors are float32 or
better; whatever decides something (norms, singular values, errors) is computed in float64, and in one thread, so that
the number of threads doesn't change a result. This room knows no files, names or recipes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from composition.small_core import BLOCK, Core, Factors, cores, gram, gram_wide, householder, householder_norm
from composition.threads import one_thread

_WIDE = 32  # binary orders of magnitude that one factor takes alone


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The delta `scaling * B @ A`. A: (rank, in); B: (out, rank); same dtype and device.

    `scaling` holds every factor in front (alpha / rank, weights) exactly, until `folded` rounds it into B once.
    """

    A: Tensor
    B: Tensor
    scaling: float = 1.0

    def __post_init__(self) -> None:
        if self.A.ndim != 2 or self.B.ndim != 2 or self.A.shape[0] != self.B.shape[1]:
            raise ValueError(f"A {tuple(self.A.shape)} and B {tuple(self.B.shape)} are not (rank, in) and (out, rank)")

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in): the shape of the delta."""
        return self.B.shape[0], self.A.shape[1]

    def scaled(self, factor: float) -> Self:
        """`factor` times the delta, exact."""
        return replace(self, scaling=self.scaling * factor)

    def __neg__(self) -> Self:
        return self.scaled(-1.0)

    def __add__(self, other: "LowRank") -> "LowRank":
        return concatenate((self, other))

    def __sub__(self, other: "LowRank") -> "LowRank":
        return concatenate((self, -other))

    def folded(self) -> "LowRank":
        """The same delta with scaling 1: B takes the factor, rounded once. Unchanged if the scaling is 1.

        Of a very large or small factor A takes a power of two, so that neither side leaves its dtype's range early.
        """
        if self.scaling == 1.0:
            return self
        exponent = math.frexp(self.scaling)[1]
        share = 2.0 ** (exponent // 2) if abs(exponent) > _WIDE else 1.0
        return LowRank(_times(self.A, share), _times(self.B, self.scaling / share))

    def to(self, device: torch.device) -> "LowRank":
        return LowRank(self.A.to(device), self.B.to(device), self.scaling)

    def dense(self) -> Tensor:
        """The delta in float64, (out, in). For tests and small shapes: the rest of the engine never forms it."""
        return self.scaling * (self.B.double() @ self.A.double())

    @one_thread()
    def norm(self) -> float:
        """The Frobenius norm, exact to float64 also when factors cancel."""
        if self.rank == 0:
            return 0.0
        if self.rank > min(self.shape):
            return householder_norm(_factors(self))
        gram_b, gram_a = gram(self.B), gram_wide(self.A)
        square = float((gram_b * gram_a).sum())
        parts = float((gram_b.diagonal().sqrt() * gram_a.diagonal().sqrt()).sum())
        return abs(self.scaling) * math.sqrt(square) if square > 1e-6 * parts**2 else householder_norm(_factors(self))


@dataclass(frozen=True, slots=True, eq=False)
class Truncation:
    """A truncated delta. `norm` is the Frobenius norm before, `error` that of what was dropped."""

    delta: LowRank
    norm: float
    error: float


def concatenate(terms: Sequence[LowRank]) -> LowRank:
    """The sum of deltas of one shape, exact: ranks add up. A single term is returned as it is."""
    if len(terms) == 1:
        return terms[0]
    folded = [term.folded() for term in terms]
    return LowRank(torch.cat([term.A for term in folded]), torch.cat([term.B for term in folded], dim=1))


def interpolate(start: LowRank, end: LowRank, t: float) -> LowRank:
    """(1 - t) * start + t * end; the end points are the inputs themselves."""
    if t == 0.0:
        return start
    if t == 1.0:
        return end
    return concatenate((start.scaled(1.0 - t), end.scaled(t)))


def truncate(delta: LowRank, rank: int) -> Truncation:
    """The best approximation of at most `rank`, with sqrt(S) in each factor; unchanged if its rank is that small.

    Singular values at the noise of float64 count as zero, so that a delta that cancels has rank 0.
    Source: Eckart and Young 1936; the small core as in Halko, Martinsson and Tropp 2011, section 5.1.
    """
    if delta.rank <= rank:
        return Truncation(delta, delta.norm(), 0.0)
    return truncate_by(delta, lambda _: rank)


def truncate_by(delta: LowRank, choose: Callable[[Tensor], int]) -> Truncation:
    """As `truncate`, to the rank that `choose` takes from the singular values: float64, descending, on the CPU."""
    return truncate_together([delta], choose, batched=delta.A.is_cuda)[0]


@one_thread()
def truncate_together(deltas: Sequence[LowRank], choose: Callable[[Tensor], int], *, batched: bool) -> list[Truncation]:
    """As `truncate_by` for deltas of one shape and rank; see `small_core.cores` on `batched`."""
    if deltas[0].rank == 0:
        return [Truncation(delta, 0.0, 0.0) for delta in deltas]
    found = cores([_factors(delta) for delta in deltas], batched=batched)
    values = torch.stack([core.values for core in found]).cpu()
    return [_cut(*each, choose) for each in zip(deltas, found, values, strict=True)]


def _cut(delta: LowRank, core: Core, values: Tensor, choose: Callable[[Tensor], int]) -> Truncation:
    kept = min(choose(values), int((values > core.noise).sum()))
    if kept == delta.rank:
        return Truncation(delta, _length(values), 0.0)
    root = core.values[:kept].sqrt()
    a, b = core.right_vectors(kept, root).to(delta.A.dtype), core.left_vectors(kept, root).to(delta.B.dtype)
    return Truncation(LowRank(a, b), _length(values), _length(values[kept:]))


@one_thread()
def svd(delta: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors U: (out, k) and V: (in, k), and values (k,), of what is not zero to float64; in float64."""
    if delta.rank == 0:
        return delta.B.double(), delta.A.new_zeros(0, dtype=torch.float64), delta.A.T.double()
    core = householder(_factors(delta))
    kept = int((core.values > core.noise).sum())
    return core.left_vectors(kept), core.values[:kept], core.right_vectors(kept).T


def _factors(delta: LowRank) -> Factors:
    return Factors(delta.A, delta.B, delta.scaling)


@one_thread()
def inner(left: LowRank, right: LowRank) -> float:
    """The inner product of two deltas of one shape, sum(left * right), in float64."""
    return left.scaling * right.scaling * float((gram(left.B, right.B) * gram_wide(left.A, right.A)).sum())


def balanced(delta: LowRank) -> LowRank:
    """The same delta with each pair of columns of nearly equal length, by powers of two: no value is rounded.

    Half-precision formats then lose as little as they can to overflow and underflow.
    """
    a = torch.linalg.vector_norm(delta.A, dim=1, dtype=torch.float64)
    b = torch.linalg.vector_norm(delta.B, dim=0, dtype=torch.float64)
    exponent = torch.where((a > 0) & (b > 0), ((a / b).log2() / 2).round(), torch.zeros_like(a))
    factor = torch.exp2(exponent).to(delta.A.dtype)
    return replace(delta, A=delta.A / factor[:, None], B=delta.B * factor)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite, in one pass."""
    if not values.numel():
        return True
    least, largest = values.aminmax()  # NaN wins over every number
    return bool(least.isfinite() & largest.isfinite())


def difference(exact: LowRank, rounded: LowRank) -> LowRank:
    """exact - rounded for factors that differ by little, written so that nothing cancels. Both have scaling 1."""
    return LowRank(torch.cat((exact.A, exact.A - rounded.A)), torch.cat((exact.B - rounded.B, rounded.B), dim=1))


def _length(values: Tensor) -> float:
    return float(values.square().sum().sqrt())


def _times(factor: Tensor, scalar: float) -> Tensor:
    """scalar * factor, rounded once: at once where float32 holds the scalar, else block by block in float64."""
    if scalar == 1.0:
        return factor
    if factor.dtype == torch.float32 and float(torch.tensor(scalar)) == scalar:
        return factor * scalar
    return torch.cat([(block.double() * scalar).to(factor.dtype) for block in torch.split(factor, BLOCK)])
