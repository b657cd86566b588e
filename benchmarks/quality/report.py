"""Tables of what was measured: benchmarks/results/quality.md, and the part of docs/methods.md between the marks.

It computes nothing but what a table shows: the same document gives the same text.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "quality.json"
DOCS = ROOT / "docs" / "methods.md"
BEGIN, END = "<!-- quality: written by `make bench-quality` -->", "<!-- end of quality -->"

Document = Mapping[str, Any]


def write_report(document: Document) -> None:
    """Write the Markdown beside the results, and the tables into the documentation."""
    title = f"# Quality of the methods\n\n{_machine(document)}\n\n"
    RESULTS.with_suffix(".md").write_text(title + tables(document))
    DOCS.write_text(with_tables(DOCS.read_text(), document))


def with_tables(text: str, document: Document) -> str:
    """A page with the part between the marks replaced."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{tables(document)}\n{END}{after}"


def worse(document: Document) -> list[str]:
    """The expressions that lose to PEFT's counterpart by more than one standard error."""
    rows = [row for blend in ("two", "three") for row in document[blend]["rows"]]
    return [row["expression"] for row in rows if row.get("peft", {}).get("is_worse")]


def tables(document: Document) -> str:
    """All tables, in Markdown."""
    parts = [_single(document), _blend(document, "two"), _blend(document, "three"), _subtraction(document)]
    return "\n".join(parts)


def _machine(document: Document) -> str:
    facts = {**document["machine"], **document["versions"]}
    listed = ", ".join(f"{key} {value}" for key, value in facts.items())
    precision = document["precision"]
    return f"Chosen in {precision['dev']}, scored in {precision['test']}: {listed}."


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _share(value: float) -> str:
    return f"{value:.4f}".removeprefix("0").removesuffix("0") if value < 1 else "1"


def _scores(accuracy: Mapping[str, float]) -> list[str]:
    return [_share(value) for value in accuracy.values()]


def _mean(accuracy: Mapping[str, float]) -> str:
    return _share(sum(accuracy.values()) / len(accuracy))


def _points(found: Mapping[str, Any]) -> str:
    """A difference in points, with its standard error."""
    if not found["standard_error"]:
        return "0"
    return f"{100 * found['difference']:+.2f} ± {100 * found['standard_error']:.2f}"


def _single(document: Document) -> str:
    tasks = list(document["single"][""])
    adapters = document["adapters"]
    rows = [
        [f"`{short}` ({adapters[short]})" if short else "the base", *_scores(accuracy)]
        for short, accuracy in document["single"].items()
    ]
    return _table(["alone", *tasks], rows)


def _blend(document: Document, name: str) -> str:
    blend = document[name]
    head = ["expression", *blend["tasks"], "mean", "kept", "against the sum", "PEFT's", "its mean", "against PEFT's"]
    return _table(head, list(map(_row, blend["rows"])))


def _row(row: Mapping[str, Any]) -> list[str]:
    expression = row["expression"].replace("seed=0", "seed=N") if row["seeds"] > 1 else row["expression"]
    kept = "" if row["kept"] is None else f"{100 * row['kept']:.1f} %"
    ours = [f"`{expression}`", *_scores(row["accuracy"]), _mean(row["accuracy"]), kept, _points(row["against_sum"])]
    peft = row.get("peft")
    if not peft:
        return [*ours, "", "", ""]
    mark = " **worse**" if peft["is_worse"] else ""
    return [*ours, f"`{peft['kind']}`", _mean(peft["accuracy"]), _points(peft) + mark]


def _subtraction(document: Document) -> str:
    tasks = list(document["single"][""])
    return _table(["expression", *tasks, "PEFT's", *tasks], list(_subtractions(document, len(tasks))))


def _subtractions(document: Document, tasks: int) -> Iterator[list[str]]:
    for row in document["subtraction"]:
        peft = row["peft"]
        theirs = [f"`{peft['kind']}`", *_scores(peft["accuracy"])] if peft else [""] * (tasks + 1)
        yield [f"`{row['expression']}`" if row["expression"] else "the base", *_scores(row["accuracy"]), *theirs]
