"""Methods that look at every element of a delta: row tiles in, the best low-rank approximation out.

A delta's rows are formed a tile at a time, never all of them. What a method makes of a tile is a function of the tile,
so it can be computed again in each pass; the result is approximated by its Gram matrix where that is small, else by a
block Krylov space that starts at the inputs' own A factors. Tiles have one fixed height, whatever the machine, and are
added up in their order: a result doesn't depend on memory or threads (but see `low_rank` on LAPACK). This room
knows no recipes and no papers on merging.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.low_rank import LowRank, Truncation
from composition.sparsify import bracket, thresholds

TILE = 64  # rows of a delta that are formed at once
ITERATIONS = 2  # of the Krylov space, beyond its start
GRAM = 1024  # columns up to which the result's Gram matrix is small enough to find the best basis with
_SAMPLE = 1 << 16  # elements that bracket a magnitude
_NOISE = 1e-7  # singular values below this times the largest are rounding of float32


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """Rows `start`, start + 1, … of all inputs' deltas; values: (inputs, rows, columns), float32."""

    start: int
    values: Tensor


Merge = Callable[[Tile], Tensor]
"""Makes the result's rows of the inputs': (rows, columns), float32; the same bits each time."""


class TrueDeltas:
    """The deltas of one module, of one shape, read in row tiles. `tile` is their height."""

    def __init__(self, deltas: Sequence[LowRank], tile: int = TILE) -> None:
        self._deltas = [delta.folded() for delta in deltas]
        self._tile = tile
        self.shape = deltas[0].shape

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

    def tiles(self) -> Iterator[Tile]:
        for start in range(0, self.shape[0], self._tile):
            rows = [(delta.B[start : start + self._tile] @ delta.A).float() for delta in self._deltas]
            yield Tile(start, torch.stack(rows))

    def values(self) -> Iterator[Tensor]:
        """The tiles' values alone."""
        for tile in self.tiles():
            yield tile.values

    def thresholds(self, count: int) -> list[float]:
        """The magnitude of each input's count-th largest element, see `sparsify`."""
        share = count / self.size
        brackets = [bracket(self._sample(delta), share) for delta in self._deltas]
        return thresholds(self.values, [count] * self.inputs, brackets)

    def _sample(self, delta: LowRank) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        rows, columns = (torch.randint(size, (_SAMPLE,), generator=generator) for size in self.shape)
        return (delta.B[rows] * delta.A.T[columns]).sum(1)

    def fit(self, merge: Merge, rank: int | None) -> Truncation:
        """The merged delta at a rank, by default the sum of the inputs' ranks. `norm` and `error` are the merge's.

        The best of its rank, up to rounding, in modules of at most GRAM columns.
        Source: Musco and Musco 2015, algorithm 2; Halko, Martinsson and Tropp 2011, section 4.
        """
        rank = min(rank or self.rank, *self.shape)
        width = max(self.rank, rank)
        if rank == 0:
            return Truncation(self._nothing(), 0.0, 0.0)
        if (ITERATIONS + 1) * width >= min(self.shape):
            return self._fit_whole(merge, rank)
        basis = self._eigenbasis(merge, rank) if self.shape[1] <= GRAM else self._krylov(merge, width)
        return self._fit_within(merge, basis, rank)

    def _merged(self, merge: Merge) -> Iterator[Tensor]:
        return map(merge, self.tiles())

    def _fit_whole(self, merge: Merge, rank: int) -> Truncation:
        whole = torch.cat(list(self._merged(merge))).double()
        left, values, right = torch.linalg.svd(whole, full_matrices=False)
        kept = _kept(values, rank)
        root = values[:kept].sqrt()
        delta = LowRank((root[:, None] * right[:kept]).float(), (left[:, :kept] * root).float())
        return Truncation(delta, float(values.norm()), float(values[kept:].norm()))

    def _eigenbasis(self, merge: Merge, rank: int) -> Tensor:
        """The right singular vectors of the result's largest values: (columns, rank), float64."""
        one = torch.eye(self.shape[1], device=self._deltas[0].A.device)
        basis: Tensor = torch.linalg.eigh(self._power(merge, one))[1][:, -rank:]
        return basis.contiguous()

    def _krylov(self, merge: Merge, width: int) -> Tensor:
        """An orthonormal basis of the result's row space, nearly: (columns, (ITERATIONS + 1) * width), float64."""
        blocks = [torch.linalg.qr(self._start(width))[0]]
        for _ in range(ITERATIONS):
            grown = self._power(merge, blocks[-1].float())
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

    def _power(self, merge: Merge, block: Tensor) -> Tensor:
        total = torch.zeros(block.shape, dtype=torch.float64, device=block.device)
        for rows in self._merged(merge):
            total += rows.T @ (rows @ block)
        return total

    def _fit_within(self, merge: Merge, basis: Tensor, rank: int) -> Truncation:
        """The best approximation whose rows lie in a basis. What lies outside is measured, not inferred."""
        flat = basis.float()
        inside, square, outside = [], 0.0, 0.0
        for rows in self._merged(merge):
            inside.append(rows @ flat)
            square += _square(rows)
            outside += _square(rows - inside[-1] @ flat.T)
        tall = torch.cat(inside).double()
        values, vectors = torch.linalg.eigh(tall.T @ tall)
        values, vectors = values.flip(0).clamp(min=0).sqrt(), vectors.flip(1)
        kept = _kept(values, rank)
        root = values[:kept].sqrt()
        vectors = vectors[:, :kept]
        delta = LowRank((basis @ vectors * root).T.float().contiguous(), (tall @ vectors / root).float())
        dropped = float(values[kept:].square().sum())
        return Truncation(delta, square**0.5, (outside + dropped) ** 0.5)

    def _nothing(self) -> LowRank:
        first = self._deltas[0]
        return LowRank(first.A[:0], first.B[:, :0])


def _kept(values: Tensor, rank: int) -> int:
    return min(rank, int((values > _NOISE * values[0]).sum()))


def _square(rows: Tensor) -> float:
    return float(rows.square().sum(dtype=torch.float64))
