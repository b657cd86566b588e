"""How alike two adapters' deltas are, module by module, through their small cores: no delta is ever formed.

Knows loaded adapters, no files and no registry.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from composition.adapter import LoadedAdapter
from composition.engine import Progress, silent
from composition.low_rank import LowRank, inner, svd
from composition.spelling import spellings


@dataclass(frozen=True, slots=True)
class Similarity:
    """One module of two adapters. `norms`: of the left and the right delta, None for a module that one doesn't have.

    `product` is the deltas' inner product. `overlap_out` and `overlap_in` are the mean squared cosines of the principal
    angles between the deltas' column spaces and row spaces: 1 where the smaller one lies within the other, 0 where they
    are orthogonal. None where there is nothing to compare: no delta, a delta of zero, or another shape.
    """

    module: str
    norms: tuple[float | None, float | None]
    product: float | None = None
    overlap_out: float | None = None
    overlap_in: float | None = None

    @property
    def cosine(self) -> float | None:
        return cosine([self])

    def document(self) -> dict[str, Any]:
        """The module as a JSON value."""
        overlap = {"out": self.overlap_out, "in": self.overlap_in}
        return {"cosine": self.cosine, "norms": list(self.norms), "norm_ratio": norm_ratio([self]), "overlap": overlap}


def compare(left: LoadedAdapter, right: LoadedAdapter, progress: Progress = silent) -> tuple[Similarity, ...]:
    """Compare two adapters of one base, by the modules' names. DoRA's deltas are compared as they truly are."""
    found = []
    names = spellings([left, right])
    for done, (key, name) in enumerate(names.items()):
        progress("measuring", done, len(names))
        modules = left.by_key.get(key), right.by_key.get(key)
        one, other = (module.true_delta if module else None for module in modules)
        found.append(_compare(name, one, other))
    return tuple(found)


def _compare(name: str, left: LowRank | None, right: LowRank | None) -> Similarity:
    norms = (left.norm() if left else None, right.norm() if right else None)
    if left is None or right is None or left.shape != right.shape or not all(norms):
        return Similarity(name, norms)
    left_out, _, left_in = svd(left)
    right_out, _, right_in = svd(right)
    return Similarity(name, norms, inner(left, right), _overlap(left_out, right_out), _overlap(left_in, right_in))


def _overlap(left: Tensor, right: Tensor) -> float | None:
    """The mean squared cosine of the principal angles between two orthonormal bases (n, any).

    Source: Björck and Golub 1973: the cosines are the singular values of leftᵀ right.
    """
    products = left.T @ right
    smaller = min(products.shape)
    return min(1.0, float(products.square().sum()) / smaller) if smaller else None


def cosine(modules: Iterable[Similarity]) -> float | None:
    """The cosine between the deltas of these modules taken as one vector; None where none can be compared."""
    known = [module for module in modules if module.product is not None]
    left, right = (_length(module.norms[side] for module in known) for side in (0, 1))
    if not left * right:
        return None
    return max(-1.0, min(1.0, math.fsum(module.product or 0.0 for module in known) / (left * right)))


def norm_ratio(modules: Sequence[Similarity]) -> float | None:
    """The norm of the right deltas over that of the left ones; None where the left ones have none."""
    left, right = (_length(module.norms[side] for module in modules) for side in (0, 1))
    return right / left if left else None


def mean_overlap(modules: Iterable[Similarity]) -> tuple[float | None, float | None]:
    """The means of `overlap_out` and `overlap_in` over the modules that have them."""
    known = list(modules)
    return _mean(module.overlap_out for module in known), _mean(module.overlap_in for module in known)


def _length(norms: Iterable[float | None]) -> float:
    return math.sqrt(math.fsum(norm * norm for norm in norms if norm is not None))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def document(modules: Sequence[Similarity]) -> dict[str, Any]:
    """The comparison as a JSON value: figures of all modules together, and of each."""
    out, inside = mean_overlap(modules)
    total = {"cosine": cosine(modules), "norm_ratio": norm_ratio(modules), "overlap": {"out": out, "in": inside}}
    return {"total": total, "modules": {module.module: module.document() for module in modules}}
