"""What a composition did to the deltas, in numbers: ranks, energy, rounding, and how far the parents agree.

Plain data, no tensors. Figures follow from norms, singular values and inner products, which the engine fills in.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from composition.parents import Measured, cosine, pairs
from registry.domain.spec import layers_alike

SHARES = {"rank_90": 0.90, "rank_99": 0.99}  # of the energy; their names in the document


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """One module. Norms are Frobenius norms of the delta, out x in.

    `rank_in` and `norm` belong to the exact result before any truncation, `rank` to what is stored. `error` is the norm
    of what truncation took away, `rounding` that of what storing in the dtype changed after it. To these figures,
    what a method gives is exact. `merged` is the norm of what methods made on the true delta before they brought it to
    a rank, and `lost` that of what this took away; both are 0 without such methods. `measured`: see `parents`; nothing
    for what came from no recipe.
    """

    name: str
    rank_in: int
    rank: int
    norm: float
    error: float
    rounding: float
    merged: float = 0.0
    lost: float = 0.0
    measured: Measured = field(default_factory=Measured)

    @property
    def energy_kept(self) -> float:
        return energy_kept(self.norm, self.error)

    def document(self) -> dict[str, Any]:
        """The module as a JSON value."""
        return {
            "name": self.name,
            "rank_in": self.rank_in,
            "rank": self.rank,
            "norm": self.norm,
            "error": self.error,
            "energy_kept": self.energy_kept,
            "rounding": self.rounding,
            "merged": self.merged,
            "lost": self.lost,
            **{name: rank_needed([self], share) for name, share in SHARES.items()},
            "cosines": cosines([self]),
            "conflicts": conflict_document([self]),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A composition. `device` is where it was computed; it is no part of the recipe.

    `parents` are content digests with their weights, in the order of the modules' products.
    """

    dtype: str
    device: str
    modules: tuple[ModuleReport, ...]
    parents: tuple[tuple[str, float], ...] = ()

    @property
    def rank(self) -> int:
        """The largest rank."""
        return max((module.rank for module in self.modules), default=0)

    @property
    def rank_in(self) -> int:
        """The largest rank before truncation."""
        return max((module.rank_in for module in self.modules), default=0)

    @property
    def norm(self) -> float:
        """Norm of all deltas together, before truncation."""
        return together(module.norm for module in self.modules)

    @property
    def error(self) -> float:
        """Norm of everything that truncation took away."""
        return together(module.error for module in self.modules)

    @property
    def rounding(self) -> float:
        """Norm of everything that rounding to the dtype changed."""
        return together(module.rounding for module in self.modules)

    @property
    def energy_kept(self) -> float:
        """Share of the squared norm that truncation kept: 1 - (error / norm)²."""
        return energy_kept(self.norm, self.error)

    @property
    def merge_kept(self) -> float | None:
        """Share of the squared norm of what methods gave that their ranks hold; None without such methods."""
        return merge_kept(self.modules)

    def total(self) -> dict[str, Any]:
        """The figures of all modules together, as a JSON value."""
        return figures(self.modules)

    def layers(self) -> list[dict[str, Any]]:
        """The same of modules that differ only in their layer, in the order of their first ones."""
        groups: dict[str, list[ModuleReport]] = {}
        for module in self.modules:
            groups.setdefault(layers_alike(module.name), []).append(module)
        return [{"name": name, "modules": len(alike), **figures(alike)} for name, alike in groups.items()]

    def document(self) -> dict[str, Any]:
        """The report as a JSON value. `pairs` are positions in `parents`; every `cosines` is in their order."""
        compared = any(module.measured.products for module in self.modules)
        return {
            "dtype": self.dtype,
            "device": self.device,
            "parents": [{"digest": digest, "weight": weight} for digest, weight in self.parents],
            "pairs": [list(pair) for pair in pairs(len(self.parents))] if compared else [],
            "total": self.total(),
            "layers": self.layers(),
            "modules": [module.document() for module in self.modules],
        }


def figures(modules: Sequence[ModuleReport]) -> dict[str, Any]:
    """The figures of some modules together, as a JSON value."""
    norm, error = together(module.norm for module in modules), together(module.error for module in modules)
    return {
        "rank_in": max((module.rank_in for module in modules), default=0),
        "rank": max((module.rank for module in modules), default=0),
        "norm": norm,
        "error": error,
        "energy_kept": energy_kept(norm, error),
        "rounding": together(module.rounding for module in modules),
        "merge_kept": merge_kept(modules),
        **{name: rank_needed(modules, share) for name, share in SHARES.items()},
        "cosines": cosines(modules),
        "conflicts": conflict_document(modules),
    }


def merge_kept(modules: Sequence[ModuleReport]) -> float | None:
    """1 - (lost / merged)² of what methods made on the true delta; None where none did."""
    merged = together(module.merged for module in modules)
    return energy_kept(merged, together(module.lost for module in modules)) if merged else None


def energy_kept(norm: float, error: float) -> float:
    """1 - (error / norm)², and 1 for a delta that was zero before."""
    return 1.0 - (error / norm) ** 2 if norm > 0 else 1.0


def together(norms: Iterable[float]) -> float:
    """The norm of parts that have these norms: the root of the sum of squares."""
    return math.sqrt(math.fsum(norm * norm for norm in norms))


def rank_needed(modules: Sequence[ModuleReport], share: float) -> int | None:
    """The least rank that, given to every one of these modules, keeps this share of their energy together.

    None where a spectrum isn't known.
    """
    if any(module.norm > 0 and not module.measured.spectrum for module in modules):
        return None
    longest = max((len(module.measured.spectrum) for module in modules), default=0)
    energies = [0.0] * longest
    for module in modules:
        for index, value in enumerate(module.measured.spectrum):
            energies[index] += value * value
    sums = list(accumulate(energies))
    if not sums or sums[-1] == 0.0:
        return 0
    return bisect_left(sums, share * sums[-1]) + 1


def cosines(modules: Sequence[ModuleReport]) -> list[float | None]:
    """The cosine of each pair of parents, all these modules' deltas taken as one vector; None where one has none."""
    tables = [module.measured.products for module in modules if module.measured.products]
    if not tables:
        return []
    count = len(tables[0])
    whole = tuple(tuple(math.fsum(t[i][j] for t in tables) for j in range(count)) for i in range(count))
    return [cosine(whole, i, j) for i, j in pairs(count)]


def conflict_share(modules: Iterable[ModuleReport]) -> float | None:
    """The share of entries in which the parents disagree in sign, every module counted by its size."""
    known = [module.measured.conflicts for module in modules if module.measured.conflicts]
    size = sum(conflicts.size for conflicts in known)
    return math.fsum(conflicts.share * conflicts.size for conflicts in known) / size if size else None


def conflict_document(modules: Sequence[ModuleReport]) -> dict[str, Any] | None:
    """Conflicts of sign as a JSON value: the share, and how many entries it was counted in, of how many."""
    share = conflict_share(modules)
    if share is None:
        return None
    known = [module.measured.conflicts for module in modules if module.measured.conflicts]
    return {"share": share, "counted": sum(c.entries for c in known), "entries": sum(c.size for c in known)}
