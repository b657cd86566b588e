"""The small core of a product of two tall factors: left @ right.T = basis @ matrix @ basis.T, at most rank x rank.

left: (out, rank); right: (in, rank). Sums run over fixed blocks in a fixed order, in float64, whatever the factors are.
This room knows two matrices and a number in front of them, nothing of what they stand for.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

BLOCK = 256  # rows of a factor that are turned into float64 at once
CUT_OFF = 1e-13  # eigenvalues of a Gram matrix below this times the largest are zero to it
_UNIT = torch.finfo(torch.float64).eps


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """Gram matrices of both factors, (rank, rank) each, in float64."""

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, left: Tensor, right: Tensor) -> Self:
        return cls(gram(left), gram(right))


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Orthonormal columns within a factor's span: `tall @ small`; tall: (n, k), small: (k, any) or None for 1."""

    tall: Tensor
    small: Tensor | None

    def times(self, inside: Tensor) -> "Basis":
        """The basis after a rotation, or some of its columns; nothing tall is formed."""
        return Basis(self.tall, inside if self.small is None else self.small @ inside)

    def formed(self) -> Tensor:
        """The columns themselves, (n, any) in float64, block by block."""
        if self.small is None:
            return self.tall
        return torch.cat([block.double().contiguous() @ self.small for block in torch.split(self.tall, BLOCK)])

    def against(self, other: "Basis") -> Tensor:
        """The inner products of all columns with all of another basis's."""
        product = gram(self.tall, other.tall)
        product = product if self.small is None else self.small.T @ product
        return product if other.small is None else product @ other.small


@dataclass(frozen=True, slots=True, eq=False)
class Core:
    """The product = left @ matrix @ right.T. `noise`: singular values below it mean nothing."""

    matrix: Tensor
    left: Basis
    right: Basis
    noise: float


def by_grams(left: Tensor, right: Tensor, scaling: float, grams: Grams) -> Core | None:
    """Core by the eigenvectors of both Gram matrices; None if what the cut-off drops may matter.

    Columns are equilibrated first, so that the cut-off sees each pair at its product's size.
    """
    size_left, size_right = grams.left.diagonal(), grams.right.diagonal()
    live = ((size_left > 0) & (size_right > 0)).nonzero().squeeze(1)
    if not len(live):
        return None
    balance = (size_right[live] / size_left[live]) ** 0.25
    vectors, values, lost = _eigen(grams.left[live][:, live] * balance[:, None] * balance)
    other_vectors, other_values, other_lost = _eigen(grams.right[live][:, live] / balance[:, None] / balance)
    matrix = scaling * (values.sqrt()[:, None] * (vectors.T @ other_vectors) * other_values.sqrt())
    largest, other_largest = values.max().sqrt(), other_values.max().sqrt()
    dropped = abs(scaling) * float(lost * other_largest + other_lost * largest)
    if not dropped <= 1e-7 * float(torch.linalg.matrix_norm(matrix)):
        return None
    rank = left.shape[1]
    inside = torch.zeros(rank, len(values), dtype=torch.float64, device=matrix.device)
    other_inside = torch.zeros(rank, len(other_values), dtype=torch.float64, device=matrix.device)
    inside[live] = balance[:, None] * vectors / values.sqrt()
    other_inside[live] = other_vectors / other_values.sqrt() / balance[:, None]
    noise = abs(scaling) * float(largest * other_largest) * _UNIT * rank
    return Core(matrix, Basis(left, inside), Basis(right, other_inside), noise)


def _eigen(square: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvectors and eigenvalues above the cut-off, and the length of the longest direction that was dropped."""
    values, vectors = torch.linalg.eigh(square)
    kept = values > CUT_OFF * values[-1]
    lost = values[~kept].clamp(min=0).max().sqrt() if not bool(kept.all()) else values.new_zeros(())
    return vectors[:, kept], values[kept], lost


def by_householder(left: Tensor, right: Tensor, scaling: float) -> Core:
    """Core by QR of both factors in float64: exact also where they cancel."""
    size_left, size_right = _lengths(left), _lengths(right)
    live = (size_left > 0) & (size_right > 0)
    balance = torch.where(live, (size_right / size_left).sqrt(), torch.ones_like(size_right))
    q, r = torch.linalg.qr(left.double() * balance * live)
    other_q, other_r = torch.linalg.qr(right.double() / balance * live)
    noise = abs(scaling) * float(r.norm() * other_r.norm()) * _UNIT * left.shape[1]
    return Core(scaling * (r @ other_r.T), Basis(q, None), Basis(other_q, None), noise)


def gram(tall: Tensor, other: Tensor | None = None) -> Tensor:
    """tall.T @ other in float64, over blocks of rows in their order. tall: (n, rank); other: (n, any), or tall."""
    other = tall if other is None else other
    total = torch.zeros(tall.shape[1], other.shape[1], dtype=torch.float64, device=tall.device)
    for block, against in zip(torch.split(tall, BLOCK), torch.split(other, BLOCK), strict=True):
        rows = block.double().contiguous()  # another layout takes another kernel, which adds up in another order
        total += rows.T @ (rows if other is tall else against.double().contiguous())
    return total


def _lengths(tall: Tensor) -> Tensor:
    return gram(tall).diagonal().sqrt()
