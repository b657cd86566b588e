"""Deltas of full rank: the matrix itself as one factor, an identity as the other. Sums, norms and truncation of them.

A sum with such a delta is one matrix again, and no product of two large factors is formed. A truncation to a rank needs
no spectrum: it is the best approximation in a block Krylov space that grows until another block changes nothing. Rules
that look at all singular values take them from the smaller Gram matrix, in float64.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from composition.grams import BLOCK
from composition.low_rank import LowRank, Truncation, concatenate

_OVERSAMPLING = 8  # vectors beyond the rank in a block of the Krylov space
_CONVERGED = 1e-8  # of the energy that is left out: what another block may change when the space is large enough


def whole(matrix: Tensor) -> LowRank:
    """A matrix, (out, in), as a delta whose rank is its shorter side."""
    out, inside = matrix.shape
    if out <= inside:
        return LowRank(matrix, torch.eye(out, dtype=matrix.dtype, device=matrix.device))
    return LowRank(torch.eye(inside, dtype=matrix.dtype, device=matrix.device), matrix)


def at_most_full(delta: LowRank) -> LowRank:
    """The same delta; as a matrix, rounded once, where its rank is larger than the matrix has room for."""
    return whole(delta.dense().to(delta.A.dtype)) if delta.rank > min(delta.shape) else delta


def matrix_of(delta: LowRank) -> Tensor | None:
    """The matrix of a delta that `whole` has made, without its scaling, or None."""
    for identity, matrix in ((delta.B, delta.A), (delta.A, delta.B)):
        rows, columns = identity.shape
        if rows == columns and torch.equal(identity, torch.eye(rows, dtype=identity.dtype, device=identity.device)):
            return matrix
    return None


def add(terms: Sequence[LowRank]) -> LowRank:
    """The sum of deltas of one shape: their ranks add up, but for a term that is whole, with which the sum is."""
    matrices = [matrix_of(term) if term.rank == min(term.shape) else None for term in terms]
    if all(matrix is None for matrix in matrices):
        return concatenate(terms)
    total = torch.zeros(terms[0].shape, dtype=torch.float64, device=terms[0].A.device)
    for term, matrix in zip(terms, matrices, strict=True):
        total += term.dense() if matrix is None else term.scaling * matrix.double()
    return whole(total.float())


def norm(delta: LowRank) -> float:
    """The Frobenius norm."""
    matrix = matrix_of(delta) if delta.rank == min(delta.shape) else None
    return delta.norm() if matrix is None else abs(delta.scaling) * _energy(matrix) ** 0.5


def _energy(matrix: Tensor) -> float:
    """The squared norm, over blocks of rows in their order."""
    return sum(float(rows.double().square().sum()) for rows in torch.split(matrix, BLOCK))


def truncate_matrix(matrix: Tensor, rank: int) -> Truncation:
    """The best approximation of a rank, with its true error; the excess over the optimum is a matter of `_CONVERGED`.

    Source: Musco and Musco 2015, algorithm 2; Halko, Martinsson and Tropp 2011, section 4.
    """
    width, side = rank + _OVERSAMPLING, min(matrix.shape)
    total = _energy(matrix)
    blocks = [_orthonormal(torch.randn(matrix.shape[1], width, generator=torch.Generator().manual_seed(0)).to(matrix))]
    images = [_times(matrix, blocks[0])]
    kept = 0.0
    while (len(blocks) + 1) * width <= side:
        left, square = _within(torch.cat(images, dim=1), rank)
        if square - kept <= _CONVERGED * max(total - square, 0.0):
            return _projected(matrix, left, total)
        kept = square
        blocks.append(_next_block(matrix, images[-1], blocks))
        images.append(_times(matrix, blocks[-1]))
    return truncate_matrix_by(matrix, lambda _: rank)  # the space is nearly the whole one


def _within(images: Tensor, rank: int) -> tuple[Tensor, float]:
    """An orthonormal basis of the best `rank` directions among the columns of images, and the energy there."""
    values, vectors = torch.linalg.eigh(images.T @ images)
    values, vectors = values.flip(0)[:rank].clamp(min=0), vectors.flip(1)[:, :rank]
    live = values > torch.finfo(torch.float32).eps ** 2 * values[:1].sum()
    return images @ vectors[:, live] / values[live].sqrt(), float(values.sum())


def _next_block(matrix: Tensor, image: Tensor, blocks: Sequence[Tensor]) -> Tensor:
    grown = _times(matrix.T, image)
    for _ in range(2):  # once is not enough to float64
        for block in blocks:
            grown -= block @ (block.T @ grown)
        grown = _orthonormal(grown)
    return grown


def _orthonormal(columns: Tensor) -> Tensor:
    basis: Tensor = torch.linalg.qr(columns.double())[0]
    return basis


def _times(matrix: Tensor, columns: Tensor) -> Tensor:
    """matrix @ columns: multiplied in float32, added up from block to block in float64."""
    flat = columns.float()
    if matrix.is_contiguous():
        return torch.cat([(rows @ flat).double() for rows in torch.split(matrix, BLOCK)])
    total = torch.zeros(matrix.shape[0], columns.shape[1], dtype=torch.float64, device=matrix.device)
    for part, rows in zip(torch.split(matrix, BLOCK, dim=1), torch.split(flat, BLOCK), strict=True):
        total += part @ rows
    return total


def _projected(matrix: Tensor, left: Tensor, total: float) -> Truncation:
    """The part of a matrix in the span of orthonormal columns, as balanced factors; what is left out is measured."""
    inside = torch.zeros(left.shape[1], matrix.shape[1], dtype=torch.float64, device=matrix.device)
    for rows, part in zip(torch.split(matrix, BLOCK), torch.split(left, BLOCK), strict=True):
        inside += part.T @ rows.double()
    vectors, values, right = torch.linalg.svd(inside, full_matrices=False)
    root = values.sqrt()
    delta = LowRank((root[:, None] * right).to(matrix.dtype), (left @ vectors * root).to(matrix.dtype))
    return Truncation(delta, total**0.5, max(0.0, total - float(values.square().sum())) ** 0.5)


def truncate_matrix_by(matrix: Tensor, choose: Callable[[Tensor], int]) -> Truncation:
    """As `truncate_matrix`, to the rank that `choose` takes from all singular values, float64 and descending."""
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    gram = torch.zeros(tall.shape[1], tall.shape[1], dtype=torch.float64, device=matrix.device)
    for rows in torch.split(tall, BLOCK):
        gram += rows.double().T @ rows.double()
    squares, vectors = torch.linalg.eigh(gram)
    squares, vectors = squares.flip(0).clamp(min=0), vectors.flip(1)
    values = squares.sqrt()
    noise = torch.finfo(torch.float64).eps ** 0.5 * float(values[0])
    kept = min(choose(values), int((values > noise).sum()))
    root = values[:kept].sqrt()
    one = (vectors[:, :kept] * root).to(matrix.dtype)
    other = torch.cat([rows.double() @ vectors[:, :kept] / root for rows in torch.split(tall, BLOCK)]).to(matrix.dtype)
    delta = LowRank(one.T.contiguous(), other) if tall is matrix else LowRank(other.T.contiguous(), one)
    return Truncation(delta, float(squares.sum()) ** 0.5, float(squares[kept:].sum()) ** 0.5)
