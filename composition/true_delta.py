"""Methods that look at every element of a delta: row tiles in, the best low-rank approximation out.

A delta's rows are formed a block at a time. What a method makes of them is a function of their values, so that it can
be computed again in each pass; what fits into KEPT is kept instead. The result is approximated by its Gram matrix where
that is small, else by a block Krylov space that starts at the inputs' own A factors. Products and sums are those of
whole blocks, in their order, in one thread; a tile is a part of a block that stays in the processor's cache. So neither
its height nor the number of threads nor KEPT changes a bit. This room knows no recipes and no papers on merging.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.low_rank import LowRank, Truncation
from composition.sparsify import bracket, thresholds
from composition.threads import one_thread

BLOCK = 64  # rows of a delta that are formed and added up at once
KEPT = 1 << 24  # elements of a result, from its first row on, that are kept from pass to pass: 64 MiB
ITERATIONS = 2  # of the Krylov space, beyond its start
GRAM = 1024  # columns up to which the result's Gram matrix is small enough to find the best basis with
_TILE = 1 << 16  # elements of an input that a method sees at once on a CPU
_SAMPLE = 1 << 16  # elements that bracket a magnitude
_NOISE = 1e-7  # singular values below this times the largest are rounding of float32
_INFERRED = 0.1  # the share of the energy outside of a basis from which on a difference of sums tells it


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Rows `start`, start + 1, … of all inputs' deltas; values: (inputs, rows, columns), float32.

    The values are overwritten when the next block is formed.
    """

    start: int
    values: Tensor


Merge = Callable[[Tile], Tensor]
"""Makes the result's rows of the inputs', each element of its row alone: (rows, columns), float32."""


class TrueDeltas:
    """The deltas of one module, of one shape, read in row tiles of at most `height` rows.

    `portable` forms them by multiplications and additions in one order, which every device rounds alike.
    """

    def __init__(self, deltas: Sequence[LowRank], height: int | None = None, *, portable: bool = False) -> None:
        self._deltas = [delta.folded() for delta in deltas]
        self._portable = portable
        self.shape = deltas[0].shape
        self._device = deltas[0].A.device
        fitting = BLOCK if self._device.type == "cuda" else _TILE // max(1, self.shape[1])
        self._height = min(BLOCK, max(1, height or fitting))

    @property
    def inputs(self) -> int:
        return len(self._deltas)

    @property
    def size(self) -> int:
        """How many elements a delta has."""
        return self.shape[0] * self.shape[1]

    @property
    def rank(self) -> int:
        """The sum of the inputs' ranks."""
        return sum(delta.rank for delta in self._deltas)

    def blocks(self, first: int = 0) -> Iterator[Tile]:
        """Rows in blocks whose height is always the same, from the first-th block on."""
        rows, columns = self.shape
        buffer = torch.empty(self.inputs, min(BLOCK, rows), columns, dtype=torch.float32, device=self._device)
        for start in range(first * BLOCK, rows, BLOCK):
            values = buffer[:, : rows - start]
            for out, delta in zip(values, self._deltas, strict=True):
                self._form(out, delta, start)
            yield Tile(start, values)

    def _form(self, out: Tensor, delta: LowRank, start: int) -> None:
        left = delta.B[start : start + len(out)].float()
        if not self._portable:
            torch.mm(left, delta.A.float(), out=out)
            return
        out.zero_()
        for column, row in zip(left.T, delta.A.float(), strict=True):
            out += column[:, None] * row

    def parts(self, block: Tile) -> Iterator[Tile]:
        """The tiles of a block."""
        for start in range(0, block.values.shape[1], self._height):
            yield Tile(block.start + start, block.values[:, start : start + self._height])

    def values(self) -> Iterator[Tensor]:
        """All tiles' values."""
        for block in self.blocks():
            for tile in self.parts(block):
                yield tile.values

    @one_thread()
    def thresholds(self, count: int) -> list[float]:
        """The magnitude of each input's count-th largest element, see `sparsify`."""
        share = count / self.size
        brackets = [bracket(self._sample(delta), share) for delta in self._deltas]
        return thresholds(self.values, [count] * self.inputs, brackets)

    def _sample(self, delta: LowRank) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        rows, columns = (torch.randint(size, (_SAMPLE,), generator=generator) for size in self.shape)
        return (delta.B[rows.to(self._device)] * delta.A.T[columns.to(self._device)]).sum(1)

    @one_thread()
    def fit(self, merge: Merge, rank: int | None) -> Truncation:
        """The merged delta at a rank, by default the sum of the inputs' ranks. `norm` and `error` are the merge's.

        The best of its rank, up to rounding, in modules of at most GRAM columns.
        Source: Musco and Musco 2015, algorithm 2; Halko, Martinsson and Tropp 2011, section 4.
        """
        rank = min(rank or self.rank, *self.shape)
        width = max(self.rank, rank)
        if rank == 0:
            return Truncation(self._nothing(), 0.0, 0.0)
        merged = _Merged(self, merge)
        if (ITERATIONS + 1) * width >= min(self.shape):
            return _fit_whole(torch.cat(list(merged.blocks())).double(), rank)
        basis = _eigenbasis(merged, rank) if self.shape[1] <= GRAM else self._krylov(merged, width)
        return _fit_within(merged, basis, rank)

    def _krylov(self, merged: "_Merged", width: int) -> Tensor:
        """An orthonormal basis of the result's row space, nearly: (columns, (ITERATIONS + 1) * width), float64."""
        blocks = [torch.linalg.qr(self._start(width))[0]]
        for _ in range(ITERATIONS):
            grown = merged.power(blocks[-1].float())
            for block in blocks:
                grown -= block @ (block.T @ grown)
            blocks.append(torch.linalg.qr(grown)[0])
        basis: Tensor = torch.linalg.qr(torch.cat(blocks, dim=1))[0]
        return basis

    def _start(self, width: int) -> Tensor:
        rows = torch.cat([delta.A.double() for delta in self._deltas])
        rows = rows / rows.norm(dim=1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
        generator = torch.Generator().manual_seed(0)
        more = torch.randn(width - len(rows), self.shape[1], generator=generator, dtype=torch.float64)
        return torch.cat((rows, more.to(rows.device))).T

    def _nothing(self) -> LowRank:
        first = self._deltas[0]
        return LowRank(first.A[:0], first.B[:, :0])


class _Merged:
    """What a method makes of the deltas, in blocks of rows: (rows, columns), float32. The first ones are kept."""

    def __init__(self, deltas: TrueDeltas, merge: Merge) -> None:
        self._deltas, self._merge = deltas, merge
        self._kept: list[Tensor] = []
        self._most = KEPT // (BLOCK * deltas.shape[1])

    def blocks(self) -> Iterator[Tensor]:
        yield from self._kept
        for number, rows in enumerate(self._computed(len(self._kept)), len(self._kept)):
            if number < self._most:
                self._kept.append(rows)
            yield rows

    def _computed(self, first: int) -> Iterator[Tensor]:
        for block in self._deltas.blocks(first):
            rows = torch.empty_like(block.values[0])
            for tile in self._deltas.parts(block):
                at = tile.start - block.start
                rows[at : at + tile.values.shape[1]] = self._merge(tile)
            yield rows

    def gram(self) -> Tensor:
        """Mᵀ M: (columns, columns), float64."""
        total: Tensor | None = None
        for rows in self.blocks():
            part = (rows.T @ rows).double()
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def power(self, block: Tensor) -> Tensor:
        """Mᵀ M block: (columns, width), float64."""
        total = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        for rows in self.blocks():
            total += rows.T @ (rows @ block)
        return total


def _fit_whole(whole: Tensor, rank: int) -> Truncation:
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    kept = _rank(values, rank)
    root = values[:kept].sqrt()
    delta = LowRank((root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float())
    return Truncation(delta, float(values.norm()), float(values[kept:].norm()))


def _eigenbasis(merged: _Merged, rank: int) -> Tensor:
    """The right singular vectors of the result's largest values: (columns, rank), float64."""
    basis: Tensor = torch.linalg.eigh(merged.gram())[1][:, -rank:]
    return basis.contiguous()


def _fit_within(merged: _Merged, basis: Tensor, rank: int) -> Truncation:
    """The best approximation whose rows lie in a basis."""
    flat = basis.float()
    inside, square = [], 0.0
    for rows in merged.blocks():
        inside.append(rows @ flat)
        square += _square(rows)
    tall = torch.cat(inside).double()
    values, vectors = torch.linalg.eigh(tall.T @ tall)
    squares, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    outside = square - float(squares.sum())
    if outside < _INFERRED * square:  # too little to be told by the rounding of two sums
        outside = sum(_square(rows - part @ flat.T) for rows, part in zip(merged.blocks(), inside, strict=True))
    kept = _rank(squares.sqrt(), rank)
    root = squares[:kept].sqrt().sqrt()
    vectors = vectors[:, :kept]
    delta = LowRank((basis @ vectors * root).T.float().contiguous(), (tall @ vectors / root).float())
    return Truncation(delta, square**0.5, (outside + float(squares[kept:].sum())) ** 0.5)


def _rank(values: Tensor, rank: int) -> int:
    return min(rank, int((values > _NOISE * values[0]).sum()))


def _square(rows: Tensor) -> float:
    return float(torch.linalg.vector_norm(rows, dtype=torch.float64)) ** 2
