"""Gram matrices of the two tall factors of a product, in float64, and what they tell without forming it.

left: (out, rank); right: (in, rank); the product is `left @ right.T`. A factor may be given in parts, side by side.
Sums run over fixed blocks of rows in their order, whatever the factors' dtype is. Measuring, not computing: singular
values below 1e-8 of the whole are lost here, where `small_core`, which decides what is stored, loses none. Callers see
to it that it runs in one thread (`threads`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch
from torch import Tensor

BLOCK = 2048  # rows of a factor that are turned into float64 at once
NOISE = 1e-8  # of the largest singular value: below it, Gram matrices in float64 tell nothing

_PIVOT = 1e-3  # of the largest: below it Cholesky's factor is nearly singular
_CANCELLED = 1e-6  # of the squared sizes of the parts: a squared norm below it has lost its digits


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """Gram matrices of both factors, (…, rank, rank) each, in float64."""

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, left: Sequence[Tensor], right: Sequence[Tensor]) -> Self:
        """Those of factors that are given in parts, side by side: (out, any) and (in, any) each."""
        return cls(gram(left), gram(right))

    def scaled(self, columns: Tensor) -> "Grams":
        """Those of the product with a number in front of each pair of columns. columns: (rank,)."""
        return Grams(self.left * columns[:, None] * columns, self.right)

    def norm(self) -> float | None:
        """The product's Frobenius norm; None where its parts cancel, and too few digits are left."""
        square = float((self.left * self.right).sum())
        parts = float((self.left.diagonal().sqrt() * self.right.diagonal().sqrt()).sum())
        return math.sqrt(square) if square > _CANCELLED * parts**2 else None

    def singular_values(self) -> Tensor:
        """The singular values, largest first; rank of them, what is noise among them 0.

        They are the roots of the eigenvalues of S.T (left.T left) S with right.T right = S S.T. Columns are
        equilibrated first, so that each pair is seen at its product's size.
        """
        size_left, size_right = self.left.diagonal(), self.right.diagonal()
        live = (size_left > 0) & (size_right > 0)
        balance = torch.where(live, (size_right / size_left) ** 0.25, torch.zeros_like(size_left))
        inverse = torch.where(live, 1 / balance, torch.zeros_like(balance))
        root = _root(self.right * inverse[:, None] * inverse)
        squares: Tensor = torch.linalg.eigvalsh(root.T @ (self.left * balance[:, None] * balance) @ root)
        found = squares.clamp(min=0).sqrt().flip(0)
        return found * (found > NOISE * (size_left * size_right).sqrt().sum())

    def products(self, columns: Sequence[int]) -> Tensor:
        """Inner products of the parts that a sum consists of: (parts, parts). `columns`: of each part, in order."""
        choice = _owners(tuple(columns)).to(self.left)
        return choice.T @ (self.left * self.right) @ choice


def _root(gram: Tensor) -> Tensor:
    """S with S S.T = gram: Cholesky's factor, or eigenvectors where that loses digits or there is none."""
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(gram)
    pivots = root.diagonal()
    if failed or not float(pivots.min()) > _PIVOT * float(pivots.max()):
        values, vectors = torch.linalg.eigh(gram)
        root = vectors * values.clamp(min=0).sqrt()
    return root


@lru_cache(maxsize=64)
def _owners(columns: tuple[int, ...]) -> Tensor:
    """Which part each column is of: (all columns, parts), 0 or 1 in float64."""
    owner = torch.repeat_interleave(torch.arange(len(columns)), torch.tensor(columns))
    return torch.nn.functional.one_hot(owner, len(columns)).double()


def singular_values(left: Tensor, right: Tensor) -> Tensor:
    """The singular values, largest first, in float64; of a matrix of full rank, by its shorter side's Gram matrix."""
    if left.shape[1] <= min(len(left), len(right)):
        return Grams.of([left], [right]).singular_values()
    dense = left.double() @ right.double().T
    squares: Tensor = torch.linalg.eigvalsh(gram([dense if len(left) >= len(right) else dense.T]))
    found = squares.clamp(min=0).sqrt().flip(0)
    return found * (found > NOISE * found[0])


def gram(parts: Sequence[Tensor]) -> Tensor:
    """tall.T @ tall in float64 of tall parts side by side: (rank, rank)."""
    first, ranks = parts[0], [part.shape[1] for part in parts]
    total = torch.zeros(sum(ranks), sum(ranks), dtype=torch.float64, device=first.device)
    wide = first.stride(0) < first.stride(1)  # copied as it lies: the transpose of a matrix of long rows
    buffer = total.new_empty((len(total), BLOCK) if wide else (BLOCK, len(total)))
    for start in range(0, len(first), BLOCK):
        tall = (buffer.T if wide else buffer)[: min(BLOCK, len(first) - start)]
        for columns, part in zip(torch.split(tall, ranks, dim=1), parts, strict=True):
            columns.copy_(part[start : start + BLOCK])
        total.addmm_(tall.T, tall)
    return total


def cross(tall: Tensor, other: Tensor) -> Tensor:
    """tall.T @ other in float64. tall: (n, rank); other: (n, any)."""
    total = torch.zeros(tall.shape[1], other.shape[1], dtype=torch.float64, device=tall.device)
    for rows, others in zip(blocks(tall), blocks(other), strict=True):
        total.addmm_(rows.T, others)
    return total


def blocks(tall: Tensor) -> Iterator[Tensor]:
    """Blocks of rows in float64, (rows, rank) each, in the layout of the whole.

    All of one layout are laid out alike: another one takes another kernel, which adds up in another order.
    """
    if tall.T.is_contiguous():
        return (block.double().contiguous().T for block in torch.split(tall.T, BLOCK, dim=1))
    return (block.double().contiguous() for block in torch.split(tall, BLOCK))
