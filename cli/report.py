"""A composition's report in a terminal: facts of the whole, and a table of its modules; and what of it is published."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli.facts import layers_alike
from cli.output import Facts, heading, table
from cli.text import count
from registry.domain.errors import AdaptersError
from registry.domain.records import Lineage, Version

if TYPE_CHECKING:
    from cli.client import Opened
    from composition.report import ModuleReport, Report

COMPOSITION = "composition.json"  # the file in which a blend describes itself
_LARGEST = 16 << 20  # bytes of it that are read

_COLUMNS = ["module", "n", "rank", "kept", "90%", "99%", "signs", "cosine"]


def report_facts(report: "Report") -> Facts:
    """What happened to all modules together."""
    relative = report.rounding / report.norm if report.norm else 0.0
    rank = _rank(report.modules)
    rows = [
        ("rank", f"{rank}, in {count(len(report.modules), 'module')}, computed on {report.device}"),
        ("rounding", f"{relative:.1e} of the norm, in {report.dtype}"),
    ]
    if report.rank != report.rank_in:
        rows.insert(1, ("energy", f"{report.energy_kept:.2%} kept"))
    if report.merge_kept is not None:
        rows.insert(1, ("merge", f"{report.merge_kept:.2%} of its energy kept at its rank"))
    return rows


def report_table(report: "Report") -> None:
    """Print one row for the modules that differ only in their layer, and one for all; columns without figures go."""
    heading("energy: kept, and the rank that 90% and 99% of it need; signs that differ; cosines")
    groups: dict[str, list[ModuleReport]] = {}
    for module in report.modules:
        groups.setdefault(layers_alike(module.name), []).append(module)
    rows = [_row(name, modules) for name, modules in groups.items()]
    if len(groups) > 1:
        rows.append(_row("all", report.modules))
    filled = [index for index in range(len(_COLUMNS)) if any(row[index] for row in rows)]
    columns = [_COLUMNS[index] for index in filled]
    table(columns, [[row[index] for index in filled] for row in rows], numbers=columns[1:])


def _row(name: str, modules: Sequence["ModuleReport"]) -> list[str]:
    from composition import report  # lazy: start-up time

    kept = report.energy_kept(report.together(m.norm for m in modules), report.together(m.error for m in modules))
    share = report.conflict_share(modules)
    return [
        name,
        str(len(modules)),
        _rank(modules, "/"),
        f"{kept:.1%}",
        *(_known(report.rank_needed(modules, least)) for least in report.SHARES.values()),
        "" if share is None else f"{share:.1%}",
        _range([found for found in report.cosines(modules) if found is not None]),
    ]


def _rank(modules: Sequence["ModuleReport"], of: str = " of ") -> str:
    stored, exact = max(module.rank for module in modules), max(module.rank_in for module in modules)
    return f"{stored}" if stored == exact else f"{stored}{of}{exact}"


def _known(rank: int | None) -> str:
    return "" if rank is None else str(rank)


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
