"""What the parents of a result are to each other in one module: inner products of their deltas, and conflicts of sign.

A parent is an adapter that a recipe is made of. Its weight is the product of the factors on its way to the root, added
up over its places; functions on the way count as 1. Knows deltas and recipes, no adapters.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from composition.low_rank import LowRank, inner
from composition.small_core import Grams
from registry.domain.recipe import Call, Leaf, Node

LIMIT = 32  # parents up to which every pair is compared

_SIDE = 128  # rows, and columns, of the sample
_SMALL = 1 << 16  # entries of a delta up to which all are counted
_TILE = 128  # rows of the deltas that are formed at once
_SCALE = 1e30  # factors beyond it, or below its inverse, are not divided by

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
        is_sum = isinstance(inside, Call) and inside.method == "linear" and not any(map(_is_call, inside.children))
        return cls(weights, is_sum, every_entry)

    def compare(self, deltas: Mapping[str, LowRank], grams: Grams | None) -> "Comparison":
        """Compare those parents that have a module, given {content digest: delta}.

        `grams`, of the module's exact result, save work where that is a sum.
        """
        if len(self.weights) < 2 or not deltas:
            return Comparison()
        weighted = [deltas[digest].scaled(weight) for digest, weight in self.weights.items() if digest in deltas]
        conflicts = count_conflicts([delta for delta in weighted if delta.scaling], every_entry=self.every_entry)
        if len(self.weights) > LIMIT:
            return Comparison((), conflicts)
        found = None
        if self.is_sum and grams is not None:
            ranks = [deltas[digest].rank if digest in deltas else 0 for digest in self.weights]
            found = products_within(grams, ranks, list(self.weights.values()))
        return Comparison(found or products([deltas.get(digest) for digest in self.weights]), conflicts)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the parents of a module are to each other; `products` is empty for too few or too many of them."""

    products: Products = ()
    conflicts: Conflicts | None = None


def _is_call(node: Node) -> bool:
    return isinstance(node, Call)


def _paths(node: Node, weight: float) -> Iterator[tuple[str, float]]:
    if isinstance(node, Leaf):
        yield node.digest or "", weight
        return
    factors = node.weights if node.method == "linear" else (1.0,) * len(node.children)
    for factor, child in zip(factors, node.children, strict=True):
        yield from _paths(child, weight * factor)


# -- inner products ---------------------------------------------------------------------------------------------------


def products(deltas: Sequence[LowRank | None]) -> Products:
    """Inner products of deltas of one shape, pair by pair in float64; None stands for one that isn't there."""
    rows = [[0.0] * len(deltas) for _ in deltas]
    for i, left in enumerate(deltas):
        for j, right in enumerate(deltas[: i + 1]):
            if left is not None and right is not None:
                rows[i][j] = rows[j][i] = inner(left, right)
    return tuple(map(tuple, rows))


def products_within(grams: Grams, ranks: Sequence[int], factors: Sequence[float]) -> Products | None:
    """The same from the Gram matrices of the concatenation of `factor * delta`s. `ranks`: 0 for one that isn't there.

    Nothing that is as long as a delta's side is touched again. None for factors too large or small to divide by.
    """
    if not all(1 / _SCALE <= abs(factor) <= _SCALE for factor in factors):
        return None
    owner = torch.repeat_interleave(torch.arange(len(ranks)), torch.tensor(ranks))
    columns = torch.nn.functional.one_hot(owner, len(ranks)).to(grams.left) / grams.left.new_tensor(factors)
    return tuple(map(tuple, (columns.T @ (grams.left * grams.right) @ columns).tolist()))


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
    factors = _sampled(deltas) if sample else [(_signed(delta), delta.A) for delta in deltas]
    rows = len(factors[0][0])
    found = sum(_both_signs([b[i : i + _TILE] @ a for b, a in factors]) for i in range(0, rows, _TILE))
    return Conflicts(found, rows * factors[0][1].shape[1], out * inside)


def _sampled(deltas: Sequence[LowRank]) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    out, inside = deltas[0].shape
    device = deltas[0].A.device
    rows, columns = (torch.randperm(size, generator=generator)[:_SIDE].to(device) for size in (out, inside))
    return [(_signed(delta)[rows], delta.A[:, columns]) for delta in deltas]


def _signed(delta: LowRank) -> Tensor:
    return delta.B if delta.scaling > 0 else -delta.B


def _both_signs(tiles: Sequence[Tensor]) -> int:
    plus, minus = tiles[0] > 0, tiles[0] < 0
    for tile in tiles[1:]:
        plus |= tile > 0
        minus |= tile < 0
    return int((plus & minus).sum())
