"""A composition's report in a terminal: facts of the whole, and a table of its modules; and what of it is published."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from cli.output import Facts, heading, table
from cli.text import count
from registry.domain.errors import AdaptersError
from registry.domain.records import Lineage, Version

if TYPE_CHECKING:
    from cli.client import Opened

COMPOSITION = "composition.json"  # the file in which a blend describes itself
_LARGEST = 16 << 20  # bytes of it that are read

_COLUMNS = ["module", "n", "rank", "kept", "90%", "99%", "signs", "cosine"]


@dataclass(frozen=True, slots=True)
class _Figures:
    """The figures of some modules together, of a report's document."""

    name: str
    modules: int
    rank: int
    rank_in: int
    energy_kept: float
    merge_kept: float | None
    rounding: float
    rank_90: int | None
    rank_99: int | None
    conflicts: float | None
    cosines: tuple[float, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any], name: str, modules: int) -> Self:
        conflicts, merged, norm = document["conflicts"], document["merge_kept"], float(document["norm"])
        return cls(
            name=name,
            modules=modules,
            rank=int(document["rank"]),
            rank_in=int(document["rank_in"]),
            energy_kept=float(document["energy_kept"]),
            merge_kept=None if merged is None else float(merged),
            rounding=float(document["rounding"]) / norm if norm else 0.0,
            rank_90=_optional_rank(document["rank_90"]),
            rank_99=_optional_rank(document["rank_99"]),
            conflicts=None if conflicts is None else float(conflicts["share"]),
            cosines=tuple(float(found) for found in document["cosines"] if found is not None),
        )

    def rank_text(self, of: str) -> str:
        return f"{self.rank}" if self.rank == self.rank_in else f"{self.rank}{of}{self.rank_in}"

    @property
    def row(self) -> list[str]:
        return [
            self.name,
            str(self.modules),
            self.rank_text("/"),
            f"{self.energy_kept:.1%}",
            *("" if rank is None else str(rank) for rank in (self.rank_90, self.rank_99)),
            "" if self.conflicts is None else f"{self.conflicts:.1%}",
            _range(self.cosines),
        ]


@dataclass(frozen=True, slots=True)
class Report:
    """What of a composition's report is printed."""

    device: str
    dtype: str
    total: _Figures
    layers: tuple[_Figures, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError for a document that is none."""
        total = _Figures.of(document["total"], "all", len(document["modules"]))
        layers = (_Figures.of(line, str(line["name"]), int(line["modules"])) for line in document["layers"])
        return cls(str(document["device"]), str(document["dtype"]), total, tuple(layers))


def report_facts(report: Report) -> Facts:
    """What happened to all modules together."""
    total = report.total
    where = f"in {count(total.modules, 'module')}, computed on {report.device}"
    rows = [
        ("rank", f"{total.rank_text(' of ')}, {where}"),
        ("rounding", f"{total.rounding:.1e} of the norm, in {report.dtype}"),
    ]
    if total.rank != total.rank_in:
        rows.insert(1, ("energy", f"{total.energy_kept:.2%} kept"))
    if total.merge_kept is not None:
        rows.insert(1, ("merge", f"{total.merge_kept:.2%} of its energy kept at its rank"))
    return rows


def report_table(report: Report) -> None:
    """Print one row for the modules that differ only in their layer, and one for all; columns without figures go."""
    heading("energy: kept, and the rank that 90% and 99% of it need; signs that differ; cosines")
    rows = [line.row for line in report.layers]
    if len(rows) > 1:
        rows.append(report.total.row)
    filled = [index for index in range(len(_COLUMNS)) if any(row[index] for row in rows)]
    columns = [_COLUMNS[index] for index in filled]
    table(columns, [[row[index] for index in filled] for row in rows], numbers=columns[1:])


def _optional_rank(value: Any) -> int | None:
    return None if value is None else int(value)


def _range(cosines: Sequence[float]) -> str:
    """One cosine, or the least and the largest of several pairs."""
    if not cosines:
        return ""
    least, largest = f"{min(cosines):.3f}", f"{max(cosines):.3f}"
    return least if least == largest else f"{least} to {largest}"


# -- what is published ------------------------------------------------------------------------------------------------


def published_total(registry: "Opened", version: Version, lineage: Lineage) -> dict[str, Any] | None:
    """The figures of all modules that a version was published with; None for one that no blend of ours gave.

    The file is read as a stranger's: it counts only where its recipe is one that the registry knows gave the version.
    """
    recipes = {line.recipe_digest for line in lineage.provenance} - {None}
    if not recipes or all(file.path != COMPOSITION for file in version.files):
        return None
    from registry.formats.json_document import JsonLimits, parse_object  # lazy: start-up time

    try:
        with registry.open_file(version, COMPOSITION) as stream:
            limits = JsonLimits(size=_LARGEST)
            document = parse_object(stream.read(_LARGEST + 1), path=COMPOSITION, limits=limits)
    except AdaptersError:
        return None
    report = document.get("report") if _is_text_in(document.get("recipe_digest"), recipes) else None
    total = report.get("total") if isinstance(report, dict) else None
    return total if isinstance(total, dict) else None


def _is_text_in(value: object, known: Collection[str | None]) -> bool:
    return isinstance(value, str) and value in known


def total_text(total: Mapping[str, Any]) -> str:
    """The published figures in one line, as far as they are there and are numbers."""
    conflicts, cosines = total.get("conflicts"), total.get("cosines")
    share = conflicts.get("share") if isinstance(conflicts, dict) else None
    found = [cosine for cosine in cosines if _is_number(cosine)] if isinstance(cosines, list) else []
    parts = [
        (total.get("energy_kept"), "{:.2%} of the energy kept"),
        (total.get("rank_90"), "90% within rank {:g}"),
        (total.get("rank_99"), "99% within rank {:g}"),
        (share, "signs differ in {:.1%}"),
    ]
    texts = [text.format(value) for value, text in parts if _is_number(value)]
    return ", ".join([*texts, *([f"cosine {_range(found)}"] if found else [])])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
