"""Singular values and inner products of products of two tall factors, through their Gram matrices alone.

Measuring, not computing: singular values below 1e-8 of the whole are lost, where `low_rank`, which decides what is
stored, loses none. left: (out, rank); right: (in, rank); the matrix is `left @ right.T` and is never formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

NOISE = 1e-8  # of the largest singular value: below it, Gram matrices in float64 tell nothing

_BLOCK = 2048  # rows of a factor that are turned into float64 at once


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """Gram matrices of both factors, (rank, rank) each, in float64."""

    left: Tensor
    right: Tensor

    @classmethod
    def of(cls, left: Sequence[Tensor], right: Sequence[Tensor]) -> Self:
        """Those of factors that are given in parts, side by side: (out, any) and (in, any) each."""
        return cls(gram(left), gram(right))

    def singular_values(self) -> Tensor:
        """The singular values, largest first; rank of them, what is noise among them 0.

        They are the roots of the eigenvalues of S.T (left.T left) S with right.T right = S S.T. Columns are
        equilibrated first, so that each pair is seen at its product's size.
        """
        size_left, size_right = self.left.diagonal(), self.right.diagonal()
        live = (size_left > 0) & (size_right > 0)
        balance = torch.where(live, (size_right / size_left) ** 0.25, torch.zeros_like(size_left))
        inverse = torch.where(live, 1 / balance, torch.zeros_like(balance))
        values, vectors = torch.linalg.eigh(self.right * inverse[:, None] * inverse)
        root = vectors * values.clamp(min=0).sqrt()
        squares: Tensor = torch.linalg.eigvalsh(root.T @ (self.left * balance[:, None] * balance) @ root)
        found = squares.clamp(min=0).sqrt().flip(0)
        return found * (found > NOISE * (size_left * size_right).sqrt().sum())

    def products(self, columns: Sequence[int]) -> Tensor:
        """Inner products of the parts that a sum consists of: (parts, parts). `columns`: of each part, in order."""
        owner = torch.repeat_interleave(torch.arange(len(columns)), torch.tensor(columns))
        choice = torch.nn.functional.one_hot(owner, len(columns)).to(self.left)
        return choice.T @ (self.left * self.right) @ choice


def gram(parts: Sequence[Tensor]) -> Tensor:
    """tall.T @ tall in float64 of tall parts side by side, over blocks of rows in their order."""
    first, ranks = parts[0], [part.shape[1] for part in parts]
    total = torch.zeros(sum(ranks), sum(ranks), dtype=torch.float64, device=first.device)
    wide = first.stride(0) < first.stride(1)  # copied as it lies: the transpose of a matrix of long rows
    buffer = total.new_empty((len(total), _BLOCK) if wide else (_BLOCK, len(total)))
    for start in range(0, len(first), _BLOCK):
        tall = (buffer.T if wide else buffer)[: min(_BLOCK, len(first) - start)]
        for columns, part in zip(torch.split(tall, ranks, dim=1), parts, strict=True):
            columns.copy_(part[start : start + _BLOCK])
        total.addmm_(tall.T, tall)
    return total


def singular_values(left: Tensor, right: Tensor) -> Tensor:
    """The singular values, largest first, in float64; of a matrix of full rank, by its shorter side's Gram matrix."""
    if left.shape[1] <= min(len(left), len(right)):
        return Grams.of([left], [right]).singular_values()
    dense = left.double() @ right.double().T
    squares: Tensor = torch.linalg.eigvalsh(gram([dense if len(left) >= len(right) else dense.T]))
    found = squares.clamp(min=0).sqrt().flip(0)
    return found * (found > NOISE * found[0])
