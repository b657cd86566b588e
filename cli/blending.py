"""Blends, where the registry is: computed here on an embedded one, asked of a server elsewhere; told alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cli.client import Opened, on_server
from cli.facts import base_text, shape_text, warn_if_declared
from cli.output import Progress, facts, next_step, say
from cli.report import Report, report_facts, report_table
from registry.domain import from_documents
from registry.domain.job_documents import composition_document
from registry.domain.jobs import CompositionOrder
from registry.domain.recipe import Recipe

if TYPE_CHECKING:
    from cli.remote.registry import RemoteRegistry
    from registry.service import Registry


def blended(
    registry: Opened, order: CompositionOrder, *, device: str, base: Path | None, progress: Progress
) -> dict[str, Any]:
    """Compose and publish; returns the document of what came of it."""
    if on_server():
        return cast("RemoteRegistry", registry).compose(order, progress=progress)
    from composition.jobs import blend  # lazy: start-up time
    from composition.threads import prepare  # lazy: start-up time

    prepare(device)
    made = blend(
        cast("Registry", registry),
        order.recipe,
        order.into,
        device=device,
        aliases=order.aliases,
        message=order.message,
        force=order.force,
        dry_run=order.dry_run,
        every_entry=order.report == "full",
        base=base,
        progress=progress,
    )
    report = made.report.document() if made.report else None
    return composition_document(made.recipe, made.version, created=made.created, dry_run=order.dry_run, report=report)


def describe_blend(document: Mapping[str, Any]) -> None:
    """Print what came of a blend."""
    version = from_documents.version(document["version"]) if document["version"] else None
    report = Report.of(document["report"]) if document["report"] else None
    dry_run, replacements = document["dry_run"], Recipe.from_document(document["recipe"]).replacements
    rows: list[tuple[str, str]] = []
    if version and not dry_run:
        rows += [("version", f"{version.reference}{_how_known(document)}"), ("digest", f"sha256:{version.digest}")]
        rows += [("base", base_text(version.base)), ("adapter", shape_text(version.summary))]
    rows += [("made of", document["expression"]), ("recipe", f"sha256:{document['recipe_digest']}")]
    if replacements:
        rows.append(("replaced", f"modules and biases: {replacements}"))
    facts([*rows, *(report_facts(report) if report else ())])
    if report:
        report_table(report)
    if dry_run:
        say("a dry run: nothing was kept")
    elif version:
        warn_if_declared(version.base)
        next_step(f"adapters pull {version.reference}")


def _how_known(document: Mapping[str, Any]) -> str:
    if document["report"] is None:
        return " (this recipe gave it before; --force computes it again)"
    return "" if document["created"] else " (the same content was there already)"
