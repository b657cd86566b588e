"""Methods that look at every element of a delta: row tiles in, the best low-rank approximation out.

A delta's rows are formed a block at a time. What a method makes of them is a function of their values, so that it can
be computed again in each pass; what fits into KEPT is kept instead. The result is approximated by its Gram matrix where
that is small, else by a block Krylov space that starts at the inputs' own A factors. Products and sums are those of
whole blocks, in their order, in one thread; a tile is a part of a block that stays in the processor's cache. So neither
its height nor the number of threads nor KEPT changes a bit. This room knows no recipes and no papers on merging.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from composition.krylov import Krylov, Ritz
from composition.low_rank import LowRank, Truncation
from composition.sparsify import bracket, thresholds
from composition.threads import one_thread

BLOCK = 64  # rows of a delta that are formed and added up at once
KEPT = 12 << 20  # elements of a result, from its first row on, that are kept from pass to pass: 48 MiB
GRAM = 1024  # columns up to which the result's Gram matrix is small enough to find the best basis with
_TILE = 1 << 16  # elements of an input that a method sees at once on a CPU
_SAMPLE = 1 << 15  # elements that bracket a magnitude
_NOISE = 1e-7  # singular values below this times the largest are rounding of float32
_LEAST = 3  # blocks of a Krylov space that have to fit into a matrix; a smaller one is decomposed whole
_MOST = 8  # blocks of a Krylov space, however slowly the values fall
_ADDED = 8  # blocks of rows that are added up in float32
_INFERRED = 0.1  # the share of the energy outside of a basis from which on a difference of sums tells it


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Rows `start`, start + 1, … of all inputs' deltas; values: (inputs, rows, columns), float32.

    The values are overwritten when the next block is formed, and may be by whoever looks at the tile.
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
        self.device = deltas[0].A.device
        fitting = BLOCK if self.device.type == "cuda" else _TILE // max(1, self.shape[1])
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
        buffer = torch.empty(self.inputs, min(BLOCK, rows), columns, dtype=torch.float32, device=self.device)
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
        return (delta.B[rows.to(self.device)] * delta.A.T[columns.to(self.device)]).sum(1)

    @one_thread()
    def fit(self, merge: Merge, rank: int | None) -> Truncation:
        """The merged delta at a rank, by default the sum of the inputs' ranks. `norm` and `error` are the merge's.

        The best of its rank: up to rounding in modules of at most GRAM columns, else as nearly as `krylov` tells.
        """
        rank = min(rank or self.rank, *self.shape)
        width = max(self.rank, rank)
        if rank == 0:
            return Truncation(self._nothing(), 0.0, 0.0)
        merged = _Merged(self, merge)
        if _LEAST * width >= min(self.shape):
            return _fit_whole(torch.cat(list(merged.blocks())).double(), rank)
        ritz = _by_gram(merged, rank) if self.shape[1] <= GRAM else self._by_krylov(merged, rank)
        root = ritz.squares.sqrt().sqrt()
        delta = LowRank((ritz.right * root).T.float().contiguous(), (ritz.left / root).float())
        outside = merged.square - float(ritz.squares.sum())
        if outside < _INFERRED * merged.square:  # too little to be told by the rounding of two sums
            outside = merged.distance(delta)
        return Truncation(delta, merged.square**0.5, outside**0.5)

    def _by_krylov(self, merged: "_Merged", rank: int) -> Ritz:
        space = Krylov(merged, self._start(max(self.rank, rank)))
        for _ in range(_MOST - 1):
            if space.is_enough(rank) or not space.grow():
                break
        return space.ritz(rank)

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
        self.square = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return self._deltas.shape

    def blocks(self) -> Iterator[Tensor]:
        square = 0.0
        for number, rows in enumerate(chain(self._kept, self._computed(len(self._kept)))):
            if len(self._kept) == number < self._most:
                self._kept.append(rows)
            square += 0.0 if self.square else _square(rows)
            yield rows
        self.square = self.square or square

    def _computed(self, first: int) -> Iterator[Tensor]:
        for block in self._deltas.blocks(first):
            rows = torch.empty_like(block.values[0])
            for tile in self._deltas.parts(block):
                at = tile.start - block.start
                rows[at : at + tile.values.shape[1]] = self._merge(tile)
            yield rows

    def gram(self) -> Tensor:
        """Mᵀ M: (columns, columns), float64."""
        total = torch.zeros(self.shape[1], self.shape[1], dtype=torch.float64, device=self._deltas.device)
        for rows in self.blocks():
            total += rows.T @ rows
        return total

    def times(self, block: Tensor) -> Tensor:
        """M block: (rows, width), float64."""
        return torch.cat([rows @ block for rows in self.blocks()]).double()

    def power(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """M block and Mᵀ M block, float64: added up in float32 for a few blocks of rows at a time."""
        image, part = [], torch.zeros_like(block)
        total = part.double()
        for number, rows in enumerate(self.blocks(), 1):
            image.append(rows @ block)
            part.addmm_(rows.T, image[-1])
            if number % _ADDED == 0:
                total += part
                part.zero_()
        return torch.cat(image).double(), total.add_(part)

    def distance(self, delta: LowRank) -> float:
        """The squared norm of M less a delta."""
        blocks = zip(self.blocks(), torch.split(delta.B, BLOCK), strict=True)
        return sum(_square(rows - left @ delta.A) for rows, left in blocks)


def _fit_whole(whole: Tensor, rank: int) -> Truncation:
    left, values, right = torch.linalg.svd(whole, full_matrices=False)
    kept = min(rank, int((values > _NOISE * values[0]).sum()))
    root = values[:kept].sqrt()
    delta = LowRank((root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float())
    return Truncation(delta, float(values.norm()), float(values[kept:].norm()))


def _by_gram(merged: _Merged, rank: int) -> Ritz:
    """From the right singular vectors of the result's largest values."""
    basis = torch.linalg.eigh(merged.gram())[1][:, -rank:].contiguous()
    return Ritz.of(basis, merged.times(basis.float()), rank)


def _square(rows: Tensor) -> float:
    """The squared norm: of a row in float32, of all in float64."""
    return float(torch.linalg.vector_norm(rows, dim=1).double().square().sum())
