"""LowRank: a weight delta as two factors, and its exact algebra.

Adding, subtracting, scaling and interpolating concatenate ranks and are exact. The rank is reduced only by `truncate`,
through a core of at most rank x rank; the full out x in matrix is never formed. Factors are float32 or better; whatever
decides something (norms, singular values, errors) is computed in float64, and in one thread, so that the number of
threads doesn't change a result. This room knows no files, names or recipes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from composition.grams import BLOCK, Grams, cross, gram
from composition.small_core import Basis, Core, by_grams, by_grams_together, by_householder
from composition.threads import one_thread

_TINY = 1e-24  # sums of squares that are smaller, or larger than its reciprocal, may have left float32's range
_HALF = (torch.bfloat16, torch.float16)
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

    def widened(self) -> "LowRank":
        """The same delta with factors of float32, or as they are if those are better."""
        if self.A.dtype in _HALF:
            return LowRank(self.A.float(), self.B.float(), self.scaling)
        return self

    def to(self, device: torch.device) -> "LowRank":
        return LowRank(self.A.to(device), self.B.to(device), self.scaling)

    def dense(self) -> Tensor:
        """The delta in float64, (out, in). For tests and small shapes: the rest of the engine never forms it."""
        return self.scaling * (self.B.double() @ self.A.double())

    @one_thread()
    def grams(self) -> Grams:
        """Gram matrices of B and of A, which norms, truncations and spectra share."""
        return Grams.of([self.B], [self.A.T])

    @one_thread()
    def norm(self) -> float:
        """The Frobenius norm, exact to float64 also when factors cancel."""
        if self.rank == 0:
            return 0.0
        if self.rank > min(self.shape):
            return float(torch.linalg.matrix_norm(_householder(self).matrix))
        known = self.grams().norm()
        if known is not None:
            return abs(self.scaling) * known
        return float(torch.linalg.matrix_norm(_householder(self).matrix))


@dataclass(frozen=True, slots=True, eq=False)
class Truncation:
    """A truncated delta. `norm` is the Frobenius norm before, `error` that of what was dropped.

    `values`: the singular values before, largest first, where they were needed.
    """

    delta: LowRank
    norm: float
    error: float
    values: Tensor | None = None


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


def truncate(delta: LowRank, rank: int, grams: Grams | None = None) -> Truncation:
    """The best approximation of at most `rank`, with sqrt(S) in each factor; unchanged if its rank is that small.

    Singular values at the noise of float64 count as zero, so that a delta that cancels has rank 0.
    Source: Eckart and Young 1936; the small core as in Halko, Martinsson and Tropp 2011, section 5.1.
    """
    if delta.rank <= rank:
        return Truncation(delta, delta.norm(), 0.0)
    return truncate_by(delta, lambda _: rank, grams)


@one_thread()
def truncate_by(delta: LowRank, choose: Callable[[Tensor], int], grams: Grams | None = None) -> Truncation:
    """As `truncate`, to the rank that `choose` takes from the singular values, which are float64 and descend."""
    if delta.rank == 0:
        return Truncation(delta, 0.0, 0.0)
    return _cut(delta, _core(delta, grams), choose)


@one_thread()
def truncate_together(deltas: Sequence[LowRank], choose: Callable[[Tensor], int]) -> list[Truncation]:
    """As `truncate_by` for deltas of one shape and rank, batched for a GPU; alone or among others, the same bits."""
    first = deltas[0]
    if not 0 < first.rank <= min(first.shape):
        return [truncate_by(delta, choose) for delta in deltas]
    found = by_grams_together([(delta.B, delta.A.T, delta.scaling) for delta in deltas])
    cores = [core or _householder(delta) for core, delta in zip(found, deltas, strict=True)]
    return [_cut(delta, core, choose) for delta, core in zip(deltas, cores, strict=True)]


def _cut(delta: LowRank, core: Core, choose: Callable[[Tensor], int]) -> Truncation:
    return cut(core, choose, rank=delta.rank, exact=lambda: delta, dtype=delta.A.dtype)


def cut(
    core: Core,
    choose: Callable[[Tensor], int],
    *,
    rank: int,
    exact: Callable[[], LowRank],
    dtype: torch.dtype = torch.float32,
) -> Truncation:
    """A core's product, truncated to the rank that `choose` takes; `exact`, which has `rank`, if that is all of it."""
    left, values, right = core.svd()
    known = values.cpu()
    kept = min(choose(known), int((known > core.noise).sum()))
    if kept == rank:
        return Truncation(exact(), _length(known), 0.0, known)
    root = values[:kept].sqrt()
    result = LowRank(
        core.right.times(right[:kept].T * root).formed(dtype).T.contiguous(),
        core.left.times(left[:, :kept] * root).formed(dtype),
    )
    return Truncation(result, _length(known), _length(known[kept:]), known)


@one_thread()
def spectrum(delta: LowRank, grams: Grams | None = None) -> Tensor:
    """The singular values of a delta, largest first, float64; what is noise among them is 0."""
    if delta.rank == 0:
        return delta.A.new_zeros(0, dtype=torch.float64)
    core = _core(delta, grams)
    values: Tensor = torch.linalg.svdvals(core.matrix)
    return values * (values > core.noise)


@one_thread()
def singular_bases(delta: LowRank) -> tuple[Basis, Basis]:
    """Orthonormal bases of a delta's column space, in out, and of its row space, in in; unformed."""
    core = _core(delta)
    left, values, right = torch.linalg.svd(core.matrix, full_matrices=False)
    kept = int((values > core.noise).sum())
    return core.left.times(left[:, :kept]), core.right.times(right[:kept].T)


@one_thread()
def svd(delta: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors U: (out, k) and V: (in, k), and values (k,), of what is not zero to float64; in float64."""
    if delta.rank == 0:
        return delta.B.double(), delta.A.new_zeros(0, dtype=torch.float64), delta.A.T.double()
    core = _householder(delta)
    left, values, right = torch.linalg.svd(core.matrix, full_matrices=False)
    kept = int((values > core.noise).sum())
    return core.left.times(left[:, :kept]).formed(), values[:kept], core.right.times(right[:kept].T).formed()


@one_thread()
def inner(left: LowRank, right: LowRank) -> float:
    """The inner product of two deltas of one shape, sum(left * right), in float64."""
    return left.scaling * right.scaling * float((cross(left.B, right.B) * cross(left.A.T, right.A.T)).sum())


def balanced(delta: LowRank) -> LowRank:
    """The same delta with each pair of columns of nearly equal length, by powers of two: no value is rounded.

    Half-precision formats then lose as little as they can to overflow and underflow.
    """
    a = torch.linalg.vector_norm(delta.A, dim=1, dtype=torch.float64)
    b = torch.linalg.vector_norm(delta.B, dim=0, dtype=torch.float64)
    exponent = torch.where((a > 0) & (b > 0), ((a / b).log2() / 2).round(), torch.zeros_like(a))
    factor = torch.exp2(exponent).to(delta.A.dtype)
    if not exponent.any():
        return delta
    return replace(delta, A=delta.A / factor[:, None], B=delta.B * factor)


def is_finite(values: Tensor) -> bool:
    """Whether no value is NaN or infinite, in one pass."""
    if not values.numel():
        return True
    least, largest = values.aminmax()  # NaN wins over every number
    return math.isfinite(least) and math.isfinite(largest)


@one_thread()
def distance(exact: LowRank, rounded: LowRank) -> float:
    """The norm of exact - rounded for factors that differ by little, summed so that nothing cancels; scaling 1 each.

    With D for differences: |B A - B' A'|² = |D_B A + B' D_A|², by Gram matrices of blocks.
    """
    near_b, near_a = rounded.B.to(exact.B.dtype), rounded.A.T.to(exact.A.dtype)
    b, mixed_b, own_b = _grams_apart(exact.B - near_b, near_b)
    a, mixed_a, own_a = _grams_apart(exact.A.T - near_a, near_a)
    crossed = (mixed_b * (mixed_a.T + a)).sum()  # A = A' + D_A
    return math.sqrt(max(0.0, float((b * (own_a + mixed_a + mixed_a.T + a)).sum() + 2 * crossed + (own_b * a).sum())))


def _grams_apart(change: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gram matrices of D with D, of D with the rounded factor, and of that with itself; D = exact - rounded.

    In float32, which a figure of a report can do with, unless squares could leave its range.
    """
    own = change.T @ change
    largest = float(own.diagonal().max()) if len(own) else 0.0
    if not _TINY < largest < 1 / _TINY and change.any():
        return gram([change]), cross(change, near), gram([near])
    return own.double(), (change.T @ near).double(), (near.T @ near).double()


def _core(delta: LowRank, grams: Grams | None = None) -> Core:
    """The core through Gram matrices, or through QR where those lose more than float32 resolves, or are larger."""
    if delta.rank > min(delta.shape):
        return _householder(delta)
    return by_grams(delta.B, delta.A.T, delta.scaling, grams or delta.grams()) or _householder(delta)


def _householder(delta: LowRank) -> Core:
    return by_householder(delta.B, delta.A.T, delta.scaling)


def _length(values: Tensor) -> float:
    return float(values.square().sum().sqrt())


def _times(factor: Tensor, scalar: float) -> Tensor:
    """scalar * factor, rounded once: at once where float32 holds the scalar, else block by block in float64."""
    if scalar == 1.0:
        return factor
    if factor.dtype == torch.float32 and float(torch.tensor(scalar)) == scalar:
        return factor * scalar
    return torch.cat([(block.double() * scalar).to(factor.dtype) for block in torch.split(factor, BLOCK)])
