"""The small core: a delta in orthonormal bases of its factors, at most rank x rank, in float64.

The bases come from Gram matrices, whose eigenvectors are cheap, or from Householder QR where those lose more than
float32 resolves. Several deltas of one shape go through it together: on a GPU that saves launches, on a CPU it is a
loop. Long sums run over fixed blocks of rows, and on a GPU in calls of one fixed size, so that neither the number of
deltas nor that of threads changes a bit. This room knows factors, no rules of truncation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 2048  # rows of a factor that are turned into float64 at once
CUT_OFF = 1e-13  # eigenvalues of a Gram matrix below this times the largest are zero to it
_UNIT = torch.finfo(torch.float64).eps
_ROWS = 1024  # rows of a block of a batched sum
_TOGETHER = 8  # deltas whose Gram matrices are decomposed at once
_BLOCKS = 32  # blocks in each call of a batched sum; the last is filled up with zeros


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """The delta `scaling * B @ A`. A: (rank, in); B: (out, rank)."""

    A: Tensor
    B: Tensor
    scaling: float

    @property
    def rank(self) -> int:
        return self.A.shape[0]


@dataclass(frozen=True, slots=True, eq=False)
class Core:
    """A core's singular values, which descend, and how to get back to factors. All in float64.

    The delta's left singular vectors are `left @ left_small`, the right ones' transpose is `right_small @ right`;
    left: (out, k); right: (k, in). Values below `noise` mean nothing.
    """

    values: Tensor
    left: Tensor
    left_small: Tensor
    right: Tensor
    right_small: Tensor
    noise: float

    def left_vectors(self, kept: int, scale: Tensor | None = None) -> Tensor:
        """The first `kept` left singular vectors, times a scale each: (out, kept), float64."""
        small = self.left_small[:, :kept]
        return _lift_tall(self.left, small if scale is None else small * scale)

    def right_vectors(self, kept: int, scale: Tensor | None = None) -> Tensor:
        """The first `kept` right singular vectors as rows, times a scale each: (kept, in), float64."""
        small = self.right_small[:kept]
        return _lift_wide(self.right, small if scale is None else scale[:, None] * small)


def cores(factors: Sequence[Factors], *, batched: bool) -> list[Core]:
    """The core of each; all have one shape and rank. `batched`: in calls of one fixed size, as a GPU needs it.

    A device gives the same bits for a delta alone and among others, but not batched and unbatched.
    """
    if factors[0].rank > min(factors[0].B.shape[0], factors[0].A.shape[1]):
        return [householder(item) for item in factors]
    found = gram_cores(factors, batched=batched)
    return [core or householder(item) for core, item in zip(found, factors, strict=True)]


def householder(factors: Factors) -> Core:
    """Core by QR of both factors: exact also where they cancel. B: (out, r) = Q R, and Aᵀ likewise."""
    (q_b, r_b), (q_a, r_a) = _triangles(factors)
    left, values, right = torch.linalg.svd(factors.scaling * (r_b @ r_a.T), full_matrices=False)
    noise = abs(factors.scaling) * float(r_b.norm() * r_a.norm()) * _UNIT * factors.rank
    return Core(values, q_b, left, q_a.T, right, noise)


def householder_norm(factors: Factors) -> float:
    """The Frobenius norm, exact also where factors cancel."""
    (_, r_b), (_, r_a) = _triangles(factors)
    return abs(factors.scaling) * float(torch.linalg.matrix_norm(r_b @ r_a.T))


def _triangles(factors: Factors) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    size_b, size_a = gram(factors.B).diagonal().sqrt(), gram_wide(factors.A).diagonal().sqrt()
    live = (size_b > 0) & (size_a > 0)
    balance = torch.where(live, (size_a / size_b).sqrt(), 1)
    left = torch.linalg.qr(factors.B.double() * balance * live)
    return left, torch.linalg.qr(factors.A.T.double() / balance * live)


# -- through Gram matrices --------------------------------------------------------------------------------------------


def gram_cores(factors: Sequence[Factors], *, batched: bool) -> list[Core | None]:
    """Cores by the eigenvectors of both Gram matrices; None where what the cut-off drops may matter.

    Columns are equilibrated first (|a_i| = |b_i|), so that the cut-off sees each pair at its product's size. What is
    cut off stays in the core as zeros, so that all cores have one shape.
    """
    if not batched:
        return [_core(item, _decomposed(gram(item.B), gram_wide(item.A))) for item in factors]
    gram_b, gram_a = _grams([item.B for item in factors]), _grams([item.A.T for item in factors])
    found: list[Core | None] = []
    for start in range(0, len(factors), _TOGETHER):
        chosen = slice(start, start + _TOGETHER)
        parts = _decomposed(_filled(gram_b[chosen]), _filled(gram_a[chosen]))
        limits = parts[3].tolist()
        found += [
            _core(item, (parts[0][i], parts[1][i], parts[2][i], limits[i])) for i, item in enumerate(factors[chosen])
        ]
    return found


def _filled(stack: Tensor) -> Tensor:
    """As many as go together: what a GPU's library computes may depend on how many there are."""
    return torch.cat((stack, stack[-1:].expand(_TOGETHER - len(stack), *stack.shape[1:])))


def _core(item: Factors, parts: tuple[Tensor, Tensor, Tensor, Sequence[float] | Tensor]) -> Core | None:
    values, left, right, (largest, lost, norm) = parts
    if not lost <= 1e-7 * norm:
        return None
    size = abs(item.scaling)
    noise = size * float(largest) * _UNIT * item.rank
    return Core(values * size, item.B, -left if item.scaling < 0 else left, item.A, right, noise)


def _decomposed(gram_b: Tensor, gram_a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Singular values and small vectors of B @ A of Gram matrices (…, r, r).

    The last part is (…, 3): the largest singular value's bound, the length of what the cut-off drops, and the norm.
    """
    size_b, size_a = gram_b.diagonal(dim1=-2, dim2=-1), gram_a.diagonal(dim1=-2, dim2=-1)
    live = (size_b > 0) & (size_a > 0)
    balance = torch.where(live, (size_a / size_b) ** 0.25, 1)
    b_root, b_vectors, b_largest, b_lost = _eigen(gram_b, balance * live)
    a_root, a_vectors, a_largest, a_lost = _eigen(gram_a, live / balance)
    matrix = b_root[..., :, None] * (b_vectors.mT @ a_vectors) * a_root[..., None, :]
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    left = (balance * live)[..., :, None] * (b_vectors @ (_inverse(b_root)[..., :, None] * left))
    right = (right * _inverse(a_root)[..., None, :]) @ a_vectors.mT * (live / balance)[..., None, :]
    dropped = b_lost * a_largest + a_lost * b_largest
    return values, left, right, torch.stack((b_largest * a_largest, dropped, values.norm(dim=-1)), dim=-1)


def _eigen(grams: Tensor, balance: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Roots of eigenvalues, 0 below the cut-off, eigenvectors, and the largest root of all and of those cut off."""
    values, vectors = torch.linalg.eigh(grams * balance[..., :, None] * balance[..., None, :])
    values = values.clamp(min=0)
    lengths = values.sqrt()
    root = lengths * (values > CUT_OFF * values[..., -1:])
    return root, vectors, lengths[..., -1], (lengths - root).amax(-1)


def _inverse(root: Tensor) -> Tensor:
    return torch.where(root > 0, 1 / root, 0)


# -- sums over rows ---------------------------------------------------------------------------------------------------


def gram(tall: Tensor, other: Tensor | None = None) -> Tensor:
    """tall.T @ other in float64, over blocks of rows in their order. tall: (n, rank); other: (n, any), or tall."""
    parts = []
    for start in range(0, len(tall), BLOCK):
        rows = _rows(tall, start)  # contiguous: another layout takes another kernel, which adds up in another order
        parts.append(rows.T @ (rows if other is None else _rows(other, start)))
    return _added(parts)


def gram_wide(wide: Tensor, other: Tensor | None = None) -> Tensor:
    """wide @ other.T in float64, over blocks of columns in their order. wide: (rank, n); other: (any, n), or wide."""
    parts = []
    for start in range(0, wide.shape[1], BLOCK):
        columns = _columns(wide, start)
        parts.append(columns @ (columns if other is None else _columns(other, start)).T)
    return _added(parts)


def _added(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def _rows(tall: Tensor, start: int) -> Tensor:
    return tall[start : start + BLOCK].double().contiguous()


def _columns(wide: Tensor, start: int) -> Tensor:
    return wide[:, start : start + BLOCK].double().contiguous()


def _lift_tall(tall: Tensor, small: Tensor) -> Tensor:
    small = small.contiguous()
    return _joined([_rows(tall, start) @ small for start in range(0, len(tall), BLOCK)], 0)


def _lift_wide(wide: Tensor, small: Tensor) -> Tensor:
    small = small.contiguous()
    return _joined([small @ _columns(wide, start) for start in range(0, wide.shape[1], BLOCK)], 1)


def _joined(parts: list[Tensor], dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=dim)


def _grams(tall: Sequence[Tensor]) -> Tensor:
    """The Gram matrix of each, in calls of one fixed size: (len(tall), rank, rank). tall: (n, rank) each."""
    length, rank = tall[0].shape
    per_factor = -(-length // _ROWS)
    blocks = [block for item in tall for block in torch.split(item, _ROWS)]
    parts = torch.cat([_block_grams(blocks[at : at + _BLOCKS]) for at in range(0, len(blocks), _BLOCKS)])
    parts = parts[: len(blocks)].view(len(tall), per_factor, rank, rank)
    return _added(list(parts.unbind(1)))


def _block_grams(blocks: Iterable[Tensor]) -> Tensor:
    """Gram matrices of up to _BLOCKS blocks of up to _ROWS rows, in one call of one fixed shape."""
    blocks = list(blocks)
    stack = blocks[0].new_zeros(_BLOCKS, _ROWS, blocks[0].shape[1], dtype=torch.float64)
    for row, block in zip(stack, blocks, strict=False):
        row[: len(block)] = block
    return torch.bmm(stack.mT, stack)
