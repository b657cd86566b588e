"""LowRank: a weight delta as two factors, and its exact algebra.

Adding, subtracting, scaling and interpolating concatenate ranks and are exact. The rank is reduced only by `truncate`,
through a core of at most rank x rank; the full out x in matrix is never formed. Factors are float32 or better; whatever
decides something (norms, singular values, errors) is computed in float64. Long sums run over fixed blocks in a fixed
order, so that the number of threads doesn't change a result. What is left to LAPACK (eigenvectors from rank 128 on, QR
always) does depend on it: entry points set one thread, which is also the fastest. `torch.set_num_threads` belongs to
the whole process, so nobody calls it here. This room knows no files, names or recipes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

BLOCK = 256  # rows of a factor that are turned into float64 at once
CUT_OFF = 1e-13  # eigenvalues of a Gram matrix below this times the largest are zero to it
_WIDE = 32  # binary orders of magnitude that one factor takes alone
_UNIT = torch.finfo(torch.float64).eps


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

    def norm(self) -> float:
        """The Frobenius norm, exact to float64 also when factors cancel."""
        if self.rank == 0:
            return 0.0
        if self.rank > min(self.shape):
            return float(torch.linalg.matrix_norm(_householder(self).matrix))
        gram_b, gram_a = _gram(self.B), _gram(self.A.T)
        square = float((gram_b * gram_a).sum())
        parts = float((gram_b.diagonal().sqrt() * gram_a.diagonal().sqrt()).sum())
        if square > 1e-6 * parts**2:
            return abs(self.scaling) * math.sqrt(square)
        return float(torch.linalg.matrix_norm(_householder(self).matrix))


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
    """As `truncate`, to the rank that `choose` takes from the singular values, which are float64 and descend."""
    if delta.rank == 0:
        return Truncation(delta, 0.0, 0.0)
    core = _core(delta)
    left, values, right = torch.linalg.svd(core.matrix, full_matrices=False)
    kept = min(choose(values), int((values > core.noise).sum()))
    if kept == delta.rank:
        return Truncation(delta, _length(values), 0.0)
    root = values[:kept].sqrt()
    result = LowRank(
        _lift(core.right, right[:kept].T * root).T.to(delta.A.dtype).contiguous(),
        _lift(core.left, left[:, :kept] * root).to(delta.B.dtype),
    )
    return Truncation(result, _length(values), _length(values[kept:]))


def svd(delta: LowRank) -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors U: (out, k) and V: (in, k), and values (k,), of what is not zero to float64; in float64."""
    if delta.rank == 0:
        return delta.B.double(), delta.A.new_zeros(0, dtype=torch.float64), delta.A.T.double()
    core = _householder(delta)
    left, values, right = torch.linalg.svd(core.matrix, full_matrices=False)
    kept = int((values > core.noise).sum())
    return _lift(core.left, left[:, :kept]), values[:kept], _lift(core.right, right[:kept].T)


def inner(left: LowRank, right: LowRank) -> float:
    """The inner product of two deltas of one shape, sum(left * right), in float64."""
    return left.scaling * right.scaling * float((_gram(left.B, right.B) * _gram(left.A.T, right.A.T)).sum())


def balanced(delta: LowRank) -> LowRank:
    """The same delta with each pair of columns of nearly equal length, by powers of two: no value is rounded.

    Half-precision formats then lose as little as they can to overflow and underflow.
    """
    a, b = delta.A.double().norm(dim=1), delta.B.double().norm(dim=0)
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


# -- the small core ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Basis:
    """An orthonormal basis of a factor's columns: `tall @ small`; tall: (n, k), small: (k, rank) or None for 1."""

    tall: Tensor
    small: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class _Core:
    """delta = left @ matrix @ right.T with orthonormal bases. `noise`: singular values below it mean nothing."""

    matrix: Tensor
    left: _Basis
    right: _Basis
    noise: float


def _core(delta: LowRank) -> _Core:
    """The core through Gram matrices, or through QR where those lose more than float32 resolves, or are larger."""
    core = _gram_core(delta) if delta.rank <= min(delta.shape) else None
    return core or _householder(delta)


def _gram_core(delta: LowRank) -> _Core | None:
    """Core by the eigenvectors of both Gram matrices; None if what the cut-off drops may matter.

    Columns are equilibrated first (|a_i| = |b_i|), so that the cut-off sees each pair at its product's size.
    """
    gram_b, gram_a = _gram(delta.B), _gram(delta.A.T)
    size_b, size_a = gram_b.diagonal(), gram_a.diagonal()
    live = ((size_b > 0) & (size_a > 0)).nonzero().squeeze(1)
    if not len(live):
        return None
    balance = (size_a[live] / size_b[live]) ** 0.25
    b_vectors, b_values, b_lost = _eigen(gram_b[live][:, live] * balance[:, None] * balance)
    a_vectors, a_values, a_lost = _eigen(gram_a[live][:, live] / balance[:, None] / balance)
    matrix = delta.scaling * (b_values.sqrt()[:, None] * (b_vectors.T @ a_vectors) * a_values.sqrt())
    largest = b_values.max().sqrt() * a_values.max().sqrt()
    dropped = abs(delta.scaling) * float(b_lost * a_values.max().sqrt() + a_lost * b_values.max().sqrt())
    if not dropped <= 1e-7 * float(torch.linalg.matrix_norm(matrix)):
        return None
    left = torch.zeros(delta.rank, len(b_values), dtype=torch.float64, device=matrix.device)
    right = torch.zeros(delta.rank, len(a_values), dtype=torch.float64, device=matrix.device)
    left[live] = balance[:, None] * b_vectors / b_values.sqrt()
    right[live] = a_vectors / a_values.sqrt() / balance[:, None]
    noise = abs(delta.scaling) * float(largest) * _UNIT * delta.rank
    return _Core(matrix, _Basis(delta.B, left), _Basis(delta.A.T, right), noise)


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors and eigenvalues above the cut-off, and the length of the longest direction that was dropped."""
    values, vectors = torch.linalg.eigh(gram)
    kept = values > CUT_OFF * values[-1]
    lost = values[~kept].clamp(min=0).max().sqrt() if not bool(kept.all()) else values.new_zeros(())
    return vectors[:, kept], values[kept], lost


def _householder(delta: LowRank) -> _Core:
    """Core by QR of both factors in float64: exact also where factors cancel. B: (out, r) = Q R, A.T likewise."""
    size_b, size_a = _lengths(delta.B), _lengths(delta.A.T)
    live = (size_b > 0) & (size_a > 0)
    balance = torch.where(live, (size_a / size_b).sqrt(), torch.ones_like(size_a))
    q_b, r_b = torch.linalg.qr(delta.B.double() * balance * live)
    q_a, r_a = torch.linalg.qr(delta.A.T.double() / balance * live)
    matrix = delta.scaling * (r_b @ r_a.T)
    noise = abs(delta.scaling) * float(r_b.norm() * r_a.norm()) * _UNIT * delta.rank
    return _Core(matrix, _Basis(q_b, None), _Basis(q_a, None), noise)


def _lift(basis: _Basis, inside: Tensor) -> Tensor:
    """basis @ inside: (n, k) in float64, block by block."""
    small = inside if basis.small is None else basis.small @ inside
    return torch.cat([block.double().contiguous() @ small for block in torch.split(basis.tall, BLOCK)])


def _gram(tall: Tensor, other: Tensor | None = None) -> Tensor:
    """tall.T @ other in float64, over blocks of rows in their order. tall: (n, rank); other: (n, any), or tall."""
    other = tall if other is None else other
    total = torch.zeros(tall.shape[1], other.shape[1], dtype=torch.float64, device=tall.device)
    for block, against in zip(torch.split(tall, BLOCK), torch.split(other, BLOCK), strict=True):
        rows = block.double().contiguous()  # another layout takes another kernel, which adds up in another order
        total += rows.T @ (rows if other is tall else against.double().contiguous())
    return total


def _lengths(tall: Tensor) -> Tensor:
    return _gram(tall).diagonal().sqrt()


def _length(values: Tensor) -> float:
    return float(values.square().sum().sqrt())


def _times(factor: Tensor, scalar: float) -> Tensor:
    if scalar == 1.0:
        return factor
    return torch.cat([(block.double() * scalar).to(factor.dtype) for block in torch.split(factor, BLOCK)])
