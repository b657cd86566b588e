"""What a composed adapter says of itself to people: README.md, and composition.json with the recipe and the report.

Neither is content: they describe how the weights came to be and don't change what is served.
"""

import json
from pathlib import Path

from composition.engine import Composition
from composition.report import SHARES, Report, conflict_share, rank_needed
from registry.domain.expression import format
from registry.domain.recipe import Recipe
from registry.domain.reference import AdapterName

CARD_NAME = "README.md"
COMPOSITION_NAME = "composition.json"


def write_description(
    folder: Path, composition: Composition, *, name: AdapterName, asked: Recipe, pinned: Recipe
) -> None:
    """Write both files into a folder. `asked` is the recipe as it was given, `pinned` what was computed."""
    document = {
        "expression": format(asked),
        "recipe_digest": pinned.digest,
        "recipe": pinned.document(),
        "report": composition.report.document(),
    }
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / COMPOSITION_NAME).write_text(text + "\n", encoding="utf-8")
    (folder / CARD_NAME).write_text(_card(composition, name=name, asked=asked, pinned=pinned), encoding="utf-8")


def _card(composition: Composition, *, name: AdapterName, asked: Recipe, pinned: Recipe) -> str:
    lines = ["---"]
    if composition.base_name:
        lines.append(f"base_model: {json.dumps(composition.base_name)}")  # a JSON text is a YAML text
    lines += [f"library_name: {composition.layout}", "tags: [lora, merge]", "---", "", f"# {name}", ""]
    lines += [
        "Composed of other adapters:",
        "",
        f"    {format(asked)}",
        "",
        "which meant",
        "",
        f"    {format(pinned)}",
        "",
    ]
    lines += _replaced(composition, pinned)
    lines += ["| input | version | content |", "|---|---|---|"]
    lines += [f"| {parent.adapter} | v{parent.version} | sha256:{parent.digest[:12]} |" for parent in pinned.inputs]
    lines += ["", *_figures(composition.report), "", f"Recipe sha256:{pinned.digest}; see {COMPOSITION_NAME}.", ""]
    return "\n".join(lines)


def _replaced(composition: Composition, pinned: Recipe) -> list[str]:
    if not composition.replaced:
        return []
    names = ", ".join(f"{item.module}.{item.parameter}" for item in composition.replaced)
    return [f"Replaced whole, by the rule {pinned.replacements}: {names}.", ""]


def _figures(report: Report) -> list[str]:
    lines = [f"{len(report.modules)} modules, rank {report.rank}, {report.dtype}."]
    if report.merge_kept is not None:
        lines.append(
            f"At its rank the merge keeps {report.merge_kept:.4%} of the energy that it had element by element."
        )
    if report.error > 0:
        lines.append(f"Truncated from rank {report.rank_in}: {report.energy_kept:.4%} of the energy is kept.")
    ranks = [rank_needed(report.modules, share) for share in SHARES.values()]
    if None not in ranks:
        lines.append(f"90% of the energy lies within rank {ranks[0]}, 99% within rank {ranks[1]}.")
    if (differing := conflict_share(report.modules)) is not None:
        lines.append(f"The parents' signs differ in {differing:.1%} of the entries.")
    if report.rounding > 0:
        lines.append(
            f"Storing it in {report.dtype} changed the deltas by {report.rounding / report.norm:.2e} of their norm."
        )
    return lines
