"""compare: what was measured of versions, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from cli.client import opened
from cli.command import REFERENCE, command
from cli.output import Output, heading, next_step, say, table
from cli.text import number, short_digest
from registry.domain.reference import Reference

_PAIRED = "[…] holds the difference in 95 of 100 such comparisons, paired by example"


@command("compare", "adapters compare demo/sentiment@v1 demo/sentiment@v2")
@click.argument(
    "references",
    metavar="REF REF...",
    type=REFERENCE,
    nargs=-1,
    required=True,
    help="versions; others against the first",
)
@click.option("--dataset", metavar="D", help="Only what was measured on this data set: its name, or its sha256.")
@click.option("--metric", metavar="M", help="Only this metric.")
def compare(out: Output, references: tuple[Reference, ...], dataset: str | None, metric: str | None) -> None:
    """Show what was measured of versions side by side.

    Where both have results of single examples (`adapters eval add --examples`) on the same content of a data set, a
    difference has a confidence interval, paired by example. Below is what each gate would say to a promotion.
    """
    with opened() as registry:
        document = registry.compare(references, dataset=dataset, metric=metric)
    out.answer(document, lambda: _describe(document), lambda: _gates(document["versions"]))


def _describe(document: Mapping[str, Any]) -> None:
    rows: Sequence[Mapping[str, Any]] = document["rows"]
    names = _names(document["versions"])
    if not rows:
        say("nothing of that was measured")
        next_step(f"adapters eval add {_reference(document['versions'][0])} NAME=VALUE --dataset D")
        return
    say(f"{', '.join(names[1:])} against {names[0]}")
    table(["metric", "dataset", *names], [[row["metric"], _dataset(row), *_cells(row)] for row in rows])
    if any(found and found["low"] is not None for row in rows for found in row["differences"]):
        say(_PAIRED)


def _names(versions: Sequence[Mapping[str, Any]]) -> list[str]:
    """v1, v2 where all are of one adapter."""
    alike = len({version["name"] for version in versions}) == 1
    return [f"v{version['version']}" if alike else _reference(version) for version in versions]


def _reference(version: Mapping[str, Any]) -> str:
    return f"{version['name']}@v{version['version']}"


def _dataset(row: Mapping[str, Any]) -> str:
    pinned = short_digest(row["dataset_sha256"]) if row["dataset_sha256"] else ""
    return " ".join(part for part in (row["dataset"], pinned) if part) or "—"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [_cell(value, found) for value, found in zip(row["values"], row["differences"], strict=True)]


def _cell(value: float | None, found: Mapping[str, Any] | None) -> str:
    if value is None:
        return "—"
    if found is None:
        return number(value)
    change = f"{found['value']:+.3g}"
    if found["method"] == "unpaired":
        return f"{number(value)} ({change}, unpaired)"
    reach = f" [{found['low']:+.3g}, {found['high']:+.3g}]" if found["low"] is not None else ""
    return f"{number(value)} ({change}{reach}, n={found['examples']})"


def _gates(versions: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        [name, verdict["alias"], "passes" if verdict["passes"] else "; ".join(verdict["reasons"])]
        for name, version in zip(_names(versions), versions, strict=True)
        for verdict in version["gates"]
    ]
    if rows:
        heading("gates")
        table(["version", "alias", "verdict"], rows)
