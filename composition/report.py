"""What a composition did to the deltas, in numbers: ranks, norms, energy kept, rounding. Plain data, no tensors."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """One module. Norms are Frobenius norms of the delta, out x in.

    `rank_in` and `norm` belong to the exact result before any truncation, `rank` to what is stored. `error` is the norm
    of what truncation took away, `rounding` that of what storing in the dtype changed after it. To these figures,
    what a method gives is exact. `merged` is the norm of what methods made on the true delta before they brought it to
    a rank, and `lost` that of what this took away; both are 0 without such methods.
    """

    name: str
    rank_in: int
    rank: int
    norm: float
    error: float
    rounding: float
    merged: float = 0.0
    lost: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """A composition. `device` is where it was computed; it is no part of the recipe."""

    dtype: str
    device: str
    modules: tuple[ModuleReport, ...]

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
        merged = together(module.merged for module in self.modules)
        return energy_kept(merged, together(module.lost for module in self.modules)) if merged else None

    def document(self) -> dict[str, Any]:
        """The report as a JSON value."""
        total = {
            "rank_in": self.rank_in,
            "rank": self.rank,
            "norm": self.norm,
            "error": self.error,
            "energy_kept": self.energy_kept,
            "rounding": self.rounding,
            "merge_kept": self.merge_kept,
        }
        modules = [{**asdict(module), "energy_kept": energy_kept(module.norm, module.error)} for module in self.modules]
        return {"dtype": self.dtype, "device": self.device, "total": total, "modules": modules}


def energy_kept(norm: float, error: float) -> float:
    """1 - (error / norm)², and 1 for a delta that was zero before."""
    return 1.0 - (error / norm) ** 2 if norm > 0 else 1.0


def together(norms: Iterable[float]) -> float:
    """The norm of parts that have these norms: the root of the sum of squares."""
    return math.sqrt(math.fsum(norm * norm for norm in norms))
