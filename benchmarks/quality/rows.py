"""What is compared with what: for each method our expression, PEFT's counterpart, and the options tried on `dev`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.quality.arms import Ours, Theirs

DENSITIES = (0.5, 0.2, 0.8)  # where two are as good on dev, the first is taken
SEEDS = range(5)

Options = Mapping[str, float]


@dataclass(frozen=True)
class Blend:
    """The adapters that are merged, all with one weight."""

    parents: tuple[str, ...]
    weight: float = 1.0

    @property
    def terms(self) -> list[str]:
        return [name if self.weight == 1 else f"{self.weight:g}*{name}" for name in self.parents]

    @property
    def fields(self) -> dict[str, str]:
        return {"sum": " + ".join(self.terms), "inputs": ", ".join(self.terms)}


@dataclass(frozen=True)
class Row:
    """A method with its counterpart in PEFT, if there is one, at equal rank; `grid` is tried on dev for both."""

    method: str
    template: str
    peft: str | None = None
    rank: int | None = None
    grid: Sequence[Options] = field(default=({},), hash=False)
    seeded: bool = False

    def ours(self, blend: Blend, options: Options, seed: int = 0) -> Ours:
        given: dict[str, Any] = {**blend.fields, **options, "rank": self.rank, "seed": seed}
        if "density" in options:
            given["drop"] = round(1 - options["density"], 6)
        return Ours(self.template.format(**given))

    def theirs(self, blend: Blend, options: Options, seed: int = 0) -> Theirs:
        assert self.peft is not None
        weights = tuple((name, blend.weight) for name in blend.parents)
        rank = self.rank if self.peft.endswith("svd") else None
        return Theirs(self.peft, weights, rank, options.get("density"), seed if self.seeded else 0)

    @property
    def seeds(self) -> Sequence[int]:
        return SEEDS if self.seeded else range(1)


_SPARSE = {
    "ties": ("ties({inputs}, density={density}, rank={rank})", "ties", False),
    "magnitude": ("magnitude({inputs}, density={density}, rank={rank})", "magnitude_prune", False),
    "dare_linear": ("dare_linear({inputs}, drop={drop}, seed={seed}, rank={rank})", "dare_linear", True),
    "dare_ties": ("dare_ties({inputs}, drop={drop}, seed={seed}, rank={rank})", "dare_ties", True),
}


def _each(densities: Sequence[float]) -> tuple[Options, ...]:
    return tuple({"density": density} for density in densities)


def _sparse(rank: int, suffix: str, densities: Sequence[float] = DENSITIES) -> list[Row]:
    return [
        Row(method, template, kind + suffix, rank, _each(densities), seeded)
        for method, (template, kind, seeded) in _SPARSE.items()
    ]


def _without_counterpart(rank: int, densities: Sequence[float] = DENSITIES) -> list[Row]:
    grid = _each(densities)
    return [
        Row("della", "della({inputs}, drop={drop}, seed={seed}, rank={rank})", None, rank, grid, True),
        Row(
            "breadcrumbs",
            "breadcrumbs({inputs}, density={density}, rank={rank})",
            None,
            rank,
            ({"density": 0.9}, {"density": 0.7}),
        ),
        Row("sce", "sce({inputs}, density={density}, rank={rank})", None, rank, grid),
        Row("knots", "knots({inputs}, density={density})", grid=grid),
        Row("core_space", "core_space({inputs}, density={density})", grid=grid),
        Row("core_space, sum", "core_space({inputs}, merge=sum)"),
        Row("tsv", "tsv({inputs})"),
        Row("iso_c", "iso_c({inputs}, lambda={scale})", grid=({"scale": 1.0}, {"scale": 0.7}, {"scale": 0.5})),
    ]


TWO: tuple[Row, ...] = (
    Row("sum", "{sum}", "cat"),
    Row("truncate", "truncate({sum}, rank={rank})", "svd", 8),
    Row("truncate", "truncate({sum}, rank={rank})", "linear", 8),
    Row("slerp", "slerp({inputs})"),
    *_sparse(16, "_svd"),
    *_sparse(8, ""),
    *_without_counterpart(16),
)
"""Both parents have rank 8, which PEFT's kinds without `svd` need; their sum has 16."""

THREE: tuple[Row, ...] = (
    Row("sum", "{sum}", "cat"),
    Row("truncate", "truncate({sum}, rank={rank})", "svd", 16),
    *_sparse(32, "_svd", DENSITIES[:2]),
    *_without_counterpart(32, DENSITIES[:2]),
)
"""The third parent has rank 16, so that PEFT's kinds without `svd` refuse; the sum has 32."""
