"""The small core of a product of two tall factors: left @ right.T = basis @ matrix @ basis.T, at most rank x rank.

left: (out, rank); right: (in, rank). Sums run over fixed blocks in a fixed order, in float64, whatever the factors are.
Many cores of one shape can be computed together, which saves a GPU its launches: in calls of one fixed size, so that
how many there are doesn't change a bit. This room knows two matrices and a number in front of them, nothing of what
they stand for. Callers see to it that it runs in one thread (`threads`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.grams import BLOCK, Grams, blocks, cross, gram

CUT_OFF = 1e-13  # eigenvalues of a Gram matrix below this times the largest are zero to it
_PIVOT = 1e-2  # of a column of length 1, that the others don't span: below it Cholesky's factors lose digits
_UNIT = torch.finfo(torch.float64).eps
_TOGETHER = 8  # cores that are decomposed in one call
_BLOCKS = 32  # blocks in one call of a sum over many factors
_ROWS = 1024  # rows of such a block


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Orthonormal columns within a factor's span: `tall @ small`; tall: (n, k), small: (k, any) or None for 1."""

    tall: Tensor
    small: Tensor | None

    def times(self, inside: Tensor) -> "Basis":
        """The basis after a rotation, or some of its columns; nothing tall is formed."""
        return Basis(self.tall, inside if self.small is None else self.small @ inside)

    def formed(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """The columns themselves, (n, any), computed in float64 block by block; laid out as the factor is."""
        if self.small is None:
            return self.tall.to(dtype)
        small = self.small.contiguous()
        shape = (len(self.tall), small.shape[1])
        if not self.tall.T.is_contiguous():
            out = torch.empty(shape, dtype=dtype, device=small.device)
            for part, block in zip(torch.split(out, BLOCK), blocks(self.tall), strict=True):
                part.copy_(block @ small)
            return out
        out, turned = torch.empty(shape[::-1], dtype=dtype, device=small.device), small.T.contiguous()
        for part, block in zip(torch.split(out, BLOCK, dim=1), blocks(self.tall), strict=True):
            part.copy_(turned @ block.T)
        return out.T

    def against(self, other: "Basis") -> Tensor:
        """The inner products of all columns with all of another basis's."""
        product = cross(self.tall, other.tall)
        product = product if self.small is None else self.small.T @ product
        return product if other.small is None else product @ other.small


Svd = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Core:
    """The product = left @ matrix @ right.T. `noise`: singular values below it mean nothing.

    What Gram matrices can't tell from zero is zero in the matrix and in the bases. `known`: its singular value
    decomposition, where that was computed along with others'.
    """

    matrix: Tensor
    left: Basis
    right: Basis
    noise: float
    known: Svd | None = None

    def svd(self) -> Svd:
        """U, the values from the largest on, and Vᵀ."""
        return self.known or torch.linalg.svd(self.matrix, full_matrices=False)


def by_grams(left: Tensor, right: Tensor, scaling: float, grams: Grams) -> Core | None:
    """Core by Cholesky factors of both Gram matrices, or by their eigenvectors where those are far from orthogonal.

    None if what the eigenvalues' cut-off drops may matter.
    """
    return _by_cholesky(left, right, scaling, grams) or _core(left, right, scaling, _Joint.of(grams))


def _by_cholesky(left: Tensor, right: Tensor, scaling: float, grams: Grams) -> Core | None:
    """Of columns brought to length 1: None where one of them is nearly a sum of others, or zero.

    Source: Yamamoto et al. 2015: what the bases lack of orthogonality is eps / (least pivot)².
    """
    sizes, factors = [], []
    for side in (grams.left, grams.right):
        size = side.diagonal().sqrt()
        factor, failed = torch.linalg.cholesky_ex(side / size[:, None] / size)
        if failed or not float(factor.diagonal().min()) > _PIVOT:
            return None
        sizes.append(size)
        factors.append(factor)
    matrix = factors[0].T @ ((sizes[0] * sizes[1])[:, None] * factors[1])
    identity = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    smalls = [
        torch.linalg.solve_triangular(factor.T, identity, upper=True) / size[:, None]
        for factor, size in zip(factors, sizes, strict=True)
    ]
    noise = abs(scaling) * float(sizes[0].norm() * sizes[1].norm()) * _UNIT * len(matrix)
    return Core(scaling * matrix, Basis(left, smalls[0]), Basis(right, smalls[1]), noise)


def by_householder(left: Tensor, right: Tensor, scaling: float) -> Core:
    """Core by QR of both factors in float64: exact also where they cancel."""
    size_left, size_right = gram([left]).diagonal().sqrt(), gram([right]).diagonal().sqrt()
    live = (size_left > 0) & (size_right > 0)
    balance = torch.where(live, (size_right / size_left).sqrt(), 1)
    q, r = torch.linalg.qr(left.double() * balance * live)
    other_q, other_r = torch.linalg.qr(right.double() / balance * live)
    noise = 4 * abs(scaling) * float(r.norm() * other_r.norm()) * _UNIT * left.shape[1]  # of two QRs
    return Core(scaling * (r @ other_r.T), Basis(q, None), Basis(other_q, None), noise)


Factors = tuple[Tensor, Tensor, float]
"""left, right and scaling."""


def by_grams_together(factors: Sequence[Factors]) -> list[Core | None]:
    """As `by_grams` for factors of one shape, with the same bits for each alone and among others."""
    grams = Grams(_grams([left for left, _, _ in factors]), _grams([right for _, right, _ in factors]))
    found: list[Core | None] = []
    for start in range(0, len(factors), _TOGETHER):
        chosen = factors[start : start + _TOGETHER]
        part = Grams(_filled(grams.left[start : start + _TOGETHER]), _filled(grams.right[start : start + _TOGETHER]))
        joint = _Joint.of(part)
        known = torch.linalg.svd(joint.matrix, full_matrices=False)
        limits = joint.limits.cpu()  # once for all of them
        for i, item in enumerate(chosen):
            core = _core(*item, joint.at(i, limits), known=(known[0][i], known[1][i], known[2][i]))
            found.append(core)
    return found


def _filled(stack: Tensor) -> Tensor:
    """As many as go together: what a GPU's library computes may depend on how many there are."""
    return torch.cat((stack, stack[-1:].expand(_TOGETHER - len(stack), *stack.shape[1:])))


# -- through Gram matrices --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Joint:
    """Core and bases of B @ A: (…, r, r). limits: (…, 3): the largest value at most, what is lost at most, the norm."""

    matrix: Tensor
    left: Tensor
    right: Tensor
    limits: Tensor

    @classmethod
    def of(cls, grams: Grams) -> "_Joint":
        """Columns are equilibrated first (|a_i| = |b_i|), so that the cut-off sees each pair at its product's size."""
        size_left, size_right = (side.diagonal(dim1=-2, dim2=-1) for side in (grams.left, grams.right))
        live = (size_left > 0) & (size_right > 0)
        balance = torch.where(live, (size_right / size_left) ** 0.25, 1)
        left, right = _Side.of(grams.left, balance * live), _Side.of(grams.right, live / balance)
        matrix = left.root[..., :, None] * (left.vectors.mT @ right.vectors) * right.root[..., None, :]
        lost = left.lost * right.largest + right.lost * left.largest
        limits = torch.stack((left.largest * right.largest, lost, matrix.flatten(-2).norm(dim=-1)), dim=-1)
        return cls(matrix, left.small, right.small, limits)

    def at(self, index: int, limits: Tensor) -> "_Joint":
        return _Joint(self.matrix[index], self.left[index], self.right[index], limits[index])


def _core(left: Tensor, right: Tensor, scaling: float, joint: _Joint, known: Svd | None = None) -> Core | None:
    largest, lost, norm = joint.limits.tolist()
    if not (lost <= 1e-7 * norm and norm > 0):
        return None
    if known:
        known = (known[0] * math.copysign(1.0, scaling), known[1] * abs(scaling), known[2])
    noise = abs(scaling) * largest * _UNIT * left.shape[1]
    return Core(scaling * joint.matrix, Basis(left, joint.left), Basis(right, joint.right), noise, known)


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """Eigenvectors of one factor's Gram matrix, and roots of the eigenvalues: 0 for those that are cut off.

    small: the orthonormal basis in terms of the factor's columns. largest: the root of the largest eigenvalue; lost:
    that of the largest that is cut off.
    """

    vectors: Tensor
    root: Tensor
    small: Tensor
    largest: Tensor
    lost: Tensor

    @classmethod
    def of(cls, gram: Tensor, balance: Tensor) -> "_Side":
        values, vectors = torch.linalg.eigh(gram * balance[..., :, None] * balance[..., None, :])
        values = values.clamp(min=0)
        lengths = values.sqrt()
        root = lengths * (values > CUT_OFF * values[..., -1:])
        inverse = torch.where(root > 0, 1 / root, 0)
        small = balance[..., :, None] * vectors * inverse[..., None, :]
        return cls(vectors, root, small, lengths[..., -1], (lengths - root).amax(-1))


# -- many at once -----------------------------------------------------------------------------------------------------


def _grams(tall: Sequence[Tensor]) -> Tensor:
    """The Gram matrix of each, in calls of one fixed size: (len(tall), rank, rank). tall: (n, rank) each."""
    pieces = [piece for item in tall for piece in torch.split(item, _ROWS)]
    parts = torch.cat([_block_grams(pieces[at : at + _BLOCKS]) for at in range(0, len(pieces), _BLOCKS)])
    rank = tall[0].shape[1]
    total, *others = parts[: len(pieces)].view(len(tall), -1, rank, rank).unbind(1)
    for other in others:
        total += other
    return total


def _block_grams(pieces: Sequence[Tensor]) -> Tensor:
    stack = pieces[0].new_zeros(_BLOCKS, _ROWS, pieces[0].shape[1], dtype=torch.float64)
    for rows, piece in zip(stack, pieces, strict=False):
        rows[: len(piece)] = piece
    return torch.bmm(stack.mT, stack)
