"""gc and purge: stored bytes that go."""

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from cli.client import opened
from cli.command import DURATION, command, reference_argument
from cli.output import Output, facts, next_step, say
from cli.text import count, human_size
from registry.domain.errors import WrongUsage
from registry.domain.reference import Reference, Selector

if TYPE_CHECKING:
    from registry.service.collecting import Collection


@command("gc", "adapters gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Say what would go, and touch nothing.")
@click.option(
    "--grace",
    type=DURATION,
    default="1d",
    show_default=True,
    metavar="TIME",
    help="How long nothing must have referred to it: 30m, 36h, 7d.",
)
def gc(out: Output, dry_run: bool, grace: timedelta) -> None:
    """Remove stored bytes that nothing refers to any more.

    For those who run the registry. Pushes, uploads and other collectors may run meanwhile. A server does so every day
    by itself. What went is in the audit log.
    """
    with opened() as registry, out.progress() as progress:
        found = registry.collect(grace=grace, dry_run=dry_run, progress=progress)
    out.answer(asdict(found), lambda: _describe(found))


def _describe(found: "Collection") -> None:
    unknown = f", {found.unknown} of them unknown to the catalog" if found.unknown else ""
    removed = f"{count(found.blobs, 'blob')}, {human_size(found.bytes)}{unknown}"
    facts(
        [
            ("would be removed" if found.dry_run else "removed", removed),
            ("in their grace", f"{count(found.waiting, 'blob')}, {human_size(found.waiting_bytes)}"),
        ]
    )


@command("purge", "adapters purge demo/sentiment@v1 --reason 'a customer who left' --force")
@reference_argument(help="one exact version, as team/name@v3, or team/name: the adapter with all it ever had")
@click.option("--reason", required=True, help="Why; everybody who looks it up can read it.")
@click.option("--force", is_flag=True, help="Even while aliases lead there.")
def purge(out: Output, reference: Reference, reason: str, force: bool) -> None:
    """Erase the bytes of a version, or of an adapter, at once and for good.

    What another version or another team has too stays with them. A tombstone stays: numbers, digests, history and the
    reason. It takes an admin of the team.
    """
    if reference.selector is Selector.ALIAS:
        raise WrongUsage(f"{reference} may mean another version tomorrow; name an exact one, as {reference.adapter}@v1")
    with opened() as registry:
        if reference.selector is Selector.MAIN:
            found = registry.purge_adapter(reference.adapter, reason=reason, force=force)
        else:
            found = registry.purge(reference, reason=reason, force=force)
    kept = f"; {count(found.kept, 'blob')} somebody else has too" if found.kept else ""
    out.answer(
        asdict(found),
        lambda: say(f"{found.subject} is purged: {count(found.blobs, 'blob')}, {human_size(found.bytes)} erased{kept}"),
        lambda: next_step(f"adapters history {reference.adapter}"),
    )
