"""The best approximation of a matrix that is seen only through products with it: a block Krylov space.

A pass over the matrix M takes a block of orthonormal columns Q to M Q and Mᵀ M Q. From these come the Ritz values and
vectors of the space so far, and their residuals: Σ |Mᵀ M v - σ² v|² / σ² is the energy that one more power step would
gain, so a space says itself when it is large enough. On spectra with and without gaps that is a third of what is
missing, or more. Source: Musco and Musco 2015, algorithm 2; Halko, Martinsson and Tropp 2011, section 4.
This room knows no deltas; callers see to it that it runs in one thread (`threads`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

CONVERGED = 1e-7  # of the energy that is left out: what another step may gain where the space is large enough
_NOISE = 1e-7  # singular values below this times the largest are rounding of float32
_ROUNDING = 1e-12  # of all energy: gains below it are rounding of float32


class Products(Protocol):
    """A matrix M of `shape`. `square`: its squared Frobenius norm, known after the first product."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def square(self) -> float: ...

    def power(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """M block and Mᵀ M block, float64. block: (columns, width), float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Ritz:
    """What a matrix looks like from within a space: `squares` of its singular values there, largest first.

    right: (columns, k), orthonormal; left: (rows, k), their images under the matrix: as long as the values.
    """

    squares: Tensor
    right: Tensor
    left: Tensor

    @classmethod
    def of(cls, basis: Tensor, image: Tensor, most: int) -> "Ritz":
        """Of an orthonormal basis and its image, at most so many values, and none that is rounding."""
        squares, vectors = _largest(image.T @ image, most)
        return cls(squares, basis @ vectors, image @ vectors)


class Krylov:
    """A space that grows by a block a pass, from the columns of `start`: (columns, width)."""

    def __init__(self, matrix: Products, start: Tensor) -> None:
        self._matrix = matrix
        self._basis = [_orthonormal(start)]
        self._image: list[Tensor] = []
        self._back: list[Tensor] = []
        self._gram = self._basis[0].new_zeros(0, 0)
        self._add()

    @property
    def size(self) -> int:
        """Columns of its basis."""
        return sum(block.shape[1] for block in self._basis)

    def grow(self) -> bool:
        """Add a block, if there is room for it."""
        if self.size + self._basis[-1].shape[1] > min(self._matrix.shape):
            return False
        grown = self._back[-1]
        for _ in range(2):  # once is not enough to float64
            for block in self._basis:
                grown = grown - block @ (block.T @ grown)
            grown = _orthonormal(grown)
        self._basis.append(grown)
        self._add()
        return True

    def _add(self) -> None:
        """Take the newest block through the matrix, and its image's inner products with all images."""
        image, back = self._matrix.power(self._basis[-1].float())
        self._image.append(image)
        self._back.append(back)
        beside = torch.cat([each.T @ image for each in self._image])  # (size, width)
        above = torch.cat((self._gram, beside[: len(self._gram)].T))
        self._gram = torch.cat((above, beside), dim=1)

    def ritz(self, most: int) -> Ritz:
        """At most so many values, and none that is rounding."""
        squares, vectors = _largest(self._gram, most)
        return Ritz(squares, _times(self._basis, vectors), _times(self._image, vectors))

    def squares(self) -> Tensor:
        """All squares of singular values of which the space knows, largest first."""
        return _largest(self._gram, self.size)[0]

    def is_enough(self, rank: int) -> bool:
        """Whether the best approximation of a rank within the space is the best of all, nearly."""
        squares, vectors = _largest(self._gram, rank)
        residual = _times(self._back, vectors) - _times(self._basis, vectors) * squares
        gain = float((residual.square().sum(0) / squares).sum())
        left = self._matrix.square - float(squares.sum())
        return gain <= max(CONVERGED * left, _ROUNDING * self._matrix.square)


def _largest(gram: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of a Gram matrix, descending, and their vectors; those only that aren't rounding."""
    squares, vectors = torch.linalg.eigh(gram)
    kept = min(most, int((squares > _NOISE**2 * squares[-1]).sum()))
    return squares.flip(0)[:kept], vectors.flip(1)[:, :kept]


def _times(blocks: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """The columns of all blocks, times vectors."""
    parts = zip(blocks, torch.split(vectors, [block.shape[1] for block in blocks]), strict=True)
    total = torch.zeros(len(blocks[0]), vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    for block, part in parts:
        total.addmm_(block, part)
    return total


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns.double())[0]
    return basis
