"""show and history: what is known of versions."""

from collections.abc import Sequence
from typing import Any

import click

from cli.client import opened
from cli.command import ADAPTER_NAME, command, reference_argument
from cli.facts import base_cell, base_text, place, shape_text, status_text, warn_if_declared
from cli.output import Output, facts, heading, say, table
from cli.provenance import origin_texts
from cli.report import published_total, total_text
from cli.text import count, human_size, number, short_digest, when
from registry.domain.documents import evaluation_document, lineage_document, move_document, version_document
from registry.domain.records import Alias, AliasMove, Evaluation, Lineage, Page, Version
from registry.domain.reference import AdapterName, Reference


@command("show", "adapters show demo/sentiment@production")
@reference_argument()
def show(out: Output, reference: Reference) -> None:
    """Show everything that is known of a version.

    A withdrawn version is shown too, with its status and the reason.
    """
    with opened() as registry:
        version = registry.peek(reference)
        aliases = [a for a in registry.aliases(version.adapter) if a.version == version.number]
        evaluations = registry.evaluations(version)
        lineage = registry.lineage(version)
        report = published_total(registry, version, lineage)
    document = version_document(version, files=True) | {
        "aliases": {alias.name: alias.seq for alias in aliases},
        "evaluations": [evaluation_document(evaluation) for evaluation in evaluations],
        "lineage": lineage_document(lineage),
        "report": report,
    }
    out.answer(
        document,
        lambda: _facts(version, aliases, lineage, total_text(report or {})),
        lambda: _files(version),
        lambda: _evaluations(evaluations),
        lambda: warn_if_declared(version.base),
    )


def _facts(version: Version, aliases: Sequence[Alias], lineage: Lineage, report: str) -> None:
    summary = version.summary
    rows = [
        ("version", version.reference),
        ("digest", f"sha256:{version.digest}"),
        ("serving", version.serving_name),
        ("status", status_text(version)),
        ("base", base_text(version.base)),
        ("adapter", shape_text(summary)),
        ("targets", " ".join(summary.targets)),
        ("aliases", ", ".join(f"{alias.name} (seq {alias.seq})" for alias in aliases)),
        ("message", version.message),
        ("metadata", ", ".join(f"{key}={value}" for key, value in sorted(version.metadata.items()))),
        ("pushed", f"{when(version.created_at)} by {version.author}"),
        *(("made of", text) for text in origin_texts(lineage)),
        ("report", report),
        ("used in", ", ".join(f"{d.adapter}@v{d.version}" for d in lineage.descendants)),
    ]
    facts([(label, value) for label, value in rows if value])


def _files(version: Version) -> None:
    heading(f"{count(len(version.files), 'file')}, {human_size(version.size)}")
    rows = [[file.path, human_size(file.size), short_digest(file.sha256)] for file in version.files]
    table(["path", "size", "digest"], rows, numbers=["size"])


def _evaluations(evaluations: Sequence[Evaluation]) -> None:
    if evaluations:
        heading(count(len(evaluations), "evaluation"))
        evaluation_table(evaluations)


def evaluation_table(evaluations: Sequence[Evaluation]) -> None:
    """Print evaluations, newest first."""
    rows = [
        [
            " ".join(f"{name}={number(value)}" for name, value in sorted(evaluation.metrics.items())),
            evaluation.dataset or "—",
            evaluation.actor,
            when(evaluation.at),
        ]
        for evaluation in evaluations
    ]
    table(["metrics", "dataset", "by", "when (UTC)"], rows)


@command("history", "adapters history demo/sentiment production")
@click.argument("name", metavar="TEAM/NAME", type=ADAPTER_NAME, help="the adapter")
@click.argument("alias", metavar="[ALIAS]", required=False, help="only this alias's moves")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many to show at most.")
def history(out: Output, name: AdapterName, alias: str | None, limit: int) -> None:
    """Show an adapter's versions and how its aliases moved.

    The newest come first. The sequence number of a move is what `promote --expect` compares.
    """
    with opened() as registry:
        moves = registry.history(name, alias, limit=limit)
        versions: Page[Version] = Page((), None) if alias else registry.versions(name, limit=limit)
    document: dict[str, Any] = {"moves": [move_document(move) for move in moves]}
    if not alias:
        document = {"versions": [version_document(version) for version in versions.items], **document}
    out.answer(document, lambda: _versions(versions), lambda: _moves(name, moves))


def _versions(versions: Page[Version]) -> None:
    if not versions.items:
        return
    rows = [
        [place(v.number), v.status.value, str(v.summary.rank), base_cell(v.base), v.base.evidence.value, v.message]
        for v in versions.items
    ]
    table(["version", "status", "rank", "base", "evidence", "message"], rows, numbers=["rank"])
    if versions.cursor:
        say("there are older ones: --limit shows more")
    heading("moves of aliases")


def _moves(name: AdapterName, moves: Sequence[AliasMove]) -> None:
    if not moves:
        say(f"no alias of {name} has moved yet; `adapters promote {name} production` makes one")
        return
    rows = [
        [
            str(move.seq),
            move.alias,
            move.kind.value,
            f"{place(move.before)} → {place(move.after)}",
            move.actor,
            when(move.at),
            move.reason or "",
        ]
        for move in moves
    ]
    table(["seq", "alias", "kind", "from → to", "who", "when (UTC)", "why"], rows, numbers=["seq"])
