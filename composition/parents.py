"""What a report says of a module's deltas: singular values, the parents' inner products, and conflicts of sign.

A parent is an adapter that a recipe is made of. Its weight is the product of the factors on its way to the root, added
up over its places; functions on the way count as 1. Knows deltas and recipes, no adapters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Self

import torch
from torch import Tensor

from composition.grams import Grams, singular_values
from composition.low_rank import LowRank
from composition.tree import weights_of
from registry.domain.recipe import Call, Leaf, Node

LIMIT = 32  # parents up to which every pair is compared

_SIDE = 128  # rows, and columns, of the sample
_SMALL = 1 << 16  # entries of a delta up to which all are counted
_TILE = 128  # rows of the deltas that are formed at once

Products = tuple[tuple[float, ...], ...]
"""Inner products of all parents' deltas, without their weights: (parents, parents), 0 for one without the module."""


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Of `entries` that were looked at, `found` have parents' weighted deltas of both signs. `size`: all entries."""

    found: int
    entries: int
    size: int

    @property
    def share(self) -> float:
        return self.found / self.entries


@dataclass(frozen=True, slots=True)
class Measured:
    """One module. `spectrum`: of the exact result, largest first; `products` is empty for too few or many parents."""

    spectrum: tuple[float, ...] = ()
    products: Products = ()
    conflicts: Conflicts | None = None


@dataclass(frozen=True, slots=True)
class Parents:
    """The parents of a recipe {content digest: weight}, in the order of their first places.

    `is_sum`: the recipe is their weighted sum, maybe truncated. `every_entry`: conflicts are counted without sampling.
    """

    weights: Mapping[str, float]
    is_sum: bool
    every_entry: bool

    @classmethod
    def of(cls, root: Node, *, every_entry: bool = False) -> Self:
        """The parents of a canonical recipe."""
        weights: dict[str, float] = {}
        for digest, weight in _paths(root, 1.0):
            weights[digest] = weights.get(digest, 0.0) + weight
        inside = root.children[0] if isinstance(root, Call) and root.method == "truncate" else root
        is_sum = not isinstance(inside, Call) or (
            inside.method == "linear" and not any(isinstance(child, Call) for child in inside.children)
        )
        return cls(weights, is_sum, every_entry)

    def measure(self, deltas: Mapping[str, LowRank], exact: LowRank) -> Measured:
        """Measure a module, given the deltas of those parents that have it {content digest: delta} and what they give.

        A sum's singular values come from the same Gram matrices as the parents' inner products.
        """
        present = [digest for digest in self.weights if digest in deltas]
        factors = [deltas[digest] for digest in present]
        compares = 1 < len(self.weights) <= LIMIT
        if sum(delta.rank for delta in factors) > min(exact.shape):
            return self._measured(_spectrum(exact), _products_by_tiles(factors) if compares else [], factors, present)
        grams = _side_by_side(factors) if self.is_sum or compares else None
        spectrum = self._sum_spectrum(grams, factors, present) if self.is_sum and grams else _spectrum(exact)
        products = _products(grams, factors) if compares and grams else []
        return self._measured(spectrum, products, factors, present)

    def measure_sum(self, deltas: Mapping[str, LowRank], grams: Grams, spectrum: Tensor) -> Measured:
        """The same of a weighted sum of deltas, in the parents' order, as they are stored.

        `grams` are those of all their factors side by side, without any scaling; `spectrum` is the sum's.
        """
        factors = list(deltas.values())
        compares = 1 < len(self.weights) <= LIMIT
        return self._measured(spectrum, _products(grams, factors) if compares else [], factors, list(deltas))

    def _sum_spectrum(self, grams: Grams, deltas: Sequence[LowRank], present: Sequence[str]) -> Tensor:
        scales = [delta.scaling * self.weights[digest] for delta, digest in zip(deltas, present, strict=True)]
        columns = grams.left.new_tensor([s for s, delta in zip(scales, deltas, strict=True) for _ in range(delta.rank)])
        return grams.scaled(columns).singular_values()

    def _measured(
        self, spectrum: Tensor, products: list[list[float]], deltas: Sequence[LowRank], present: Sequence[str]
    ) -> Measured:
        conflicts = None
        if len(present) > 1:
            weighted = [delta.scaled(self.weights[digest]) for delta, digest in zip(deltas, present, strict=True)]
            conflicts = count_conflicts([delta for delta in weighted if delta.scaling], every_entry=self.every_entry)
        return Measured(tuple(spectrum.tolist()), self._table(products, present), conflicts)

    def _table(self, products: list[list[float]], present: Sequence[str]) -> Products:
        """The products of the parents that are present as a table of all of them."""
        if not products:
            return ()
        at = {digest: index for index, digest in enumerate(present)}
        return tuple(
            tuple(products[at[i]][at[j]] if i in at and j in at else 0.0 for j in self.weights) for i in self.weights
        )


def _paths(node: Node, weight: float) -> Iterator[tuple[str, float]]:
    if isinstance(node, Leaf):
        yield node.digest or "", weight
        return
    for factor, child in zip(weights_of(node), node.children, strict=True):
        yield from _paths(child, weight * factor)


# -- singular values and inner products -------------------------------------------------------------------------------


def _spectrum(delta: LowRank) -> Tensor:
    if delta.rank == 0:
        return delta.A.new_zeros(0)
    return abs(delta.scaling) * singular_values(delta.B, delta.A.T)


def _side_by_side(deltas: Sequence[LowRank]) -> Grams:
    """The Gram matrices of all factors side by side, without their scalings."""
    return Grams.of([delta.B for delta in deltas], [delta.A.T for delta in deltas])


def _products(grams: Grams, deltas: Sequence[LowRank]) -> list[list[float]]:
    found = grams.products([delta.rank for delta in deltas])
    scales = found.new_tensor([delta.scaling for delta in deltas])
    products: list[list[float]] = (found * scales[:, None] * scales).tolist()
    return products


def _products_by_tiles(deltas: Sequence[LowRank]) -> list[list[float]]:
    """The same of deltas whose Gram matrices would be larger than they are: rows in float32, sums in float64."""
    total = torch.zeros(len(deltas), len(deltas), dtype=torch.float64, device=deltas[0].A.device)
    for start in range(0, deltas[0].shape[0], _TILE):
        rows = torch.stack([(delta.B[start : start + _TILE] @ delta.A).flatten() * delta.scaling for delta in deltas])
        total += rows.double() @ rows.double().T
    products: list[list[float]] = total.tolist()
    return products


def cosine(found: Products, i: int, j: int) -> float | None:
    """The cosine between two parents' deltas; None where one has no delta."""
    lengths = math.sqrt(max(found[i][i], 0.0)) * math.sqrt(max(found[j][j], 0.0))
    return max(-1.0, min(1.0, found[i][j] / lengths)) if lengths else None


def pairs(count: int) -> list[tuple[int, int]]:
    """Every pair of so many parents, in the order of reports."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


# -- conflicts --------------------------------------------------------------------------------------------------------


def count_conflicts(deltas: Sequence[LowRank], *, every_entry: bool = False) -> Conflicts | None:
    """Count entries in which weighted deltas of one shape have both signs; None for fewer than two.

    Small modules are counted whole, others at the crossings of 128 rows and 128 columns, drawn without replacement
    from a fixed seed, unless `every_entry` is asked for. Products are float32: an entry that is 0 up to their rounding
    may count as either sign. Memory: 128 rows of each delta.
    """
    if len(deltas) < 2:
        return None
    out, inside = deltas[0].shape
    sample = not every_entry and out * inside > _SMALL
    factors = [_signed(_sampled(delta) if sample else delta) for delta in deltas]
    rows = len(factors[0][0])
    found = sum(_both_signs([b[i : i + _TILE] @ a for b, a in factors]) for i in range(0, rows, _TILE))
    return Conflicts(found, rows * factors[0][1].shape[1], out * inside)


def _sampled(delta: LowRank) -> LowRank:
    rows, columns = (places.to(delta.A.device) for places in _sample(delta.shape))
    return LowRank(delta.A.index_select(1, columns), delta.B.index_select(0, rows), delta.scaling)


def _signed(delta: LowRank) -> tuple[Tensor, Tensor]:
    return delta.B.float() if delta.scaling > 0 else -delta.B.float(), delta.A.float()


@lru_cache(maxsize=64)
def _sample(shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The rows and the columns that are looked at in deltas of a shape."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = (torch.randperm(size, generator=generator)[:_SIDE] for size in shape)
    return rows, columns


def _both_signs(tiles: Sequence[Tensor]) -> int:
    """In how many places one of the tiles is above 0 and one below."""
    least, most = reduce(torch.minimum, tiles), reduce(torch.maximum, tiles)
    return int(torch.minimum(most, -least).clamp_(min=0).sign_().sum(dtype=torch.float64))  # counting is slower
