"""audit list and verify: the log of what everybody did."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Output, next_step, say, table
from cli.text import count, when
from registry.domain.documents import event_document
from registry.domain.errors import AuditBroken
from registry.domain.records import Event


@click.group(cls=Commands)
def audit() -> None:
    """Read and verify the log of what everybody did.

    Every line holds the digest of the one before, so that none can be changed or taken out unseen.
    """


@audit.command("list", examples=["adapters audit list --limit 3"])
@click.option("--cursor", type=click.IntRange(min=0), default=0, help="Only what came after this line.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many to show at most.")
def list_events(out: Output, cursor: int, limit: int) -> None:
    """List what was done, by whom and when, oldest first."""
    with opened() as registry:
        found = registry.audit(cursor=cursor, limit=limit)
    more = len(found) == limit
    document = {"events": [event_document(event) for event in found], "cursor": found[-1].cursor if more else None}
    out.answer(document, lambda: _table(found), lambda: _go_on(found[-1].cursor, limit) if more else None)


def _table(found: Sequence[Event]) -> None:
    if not found:
        say("nothing more in the log")
        return
    table(["line", "when (UTC)", "who", "what", "adapter", "details"], [_row(event) for event in found])


def _row(event: Event) -> list[str]:
    details = " ".join(f"{key}={_value(value)}" for key, value in event.payload.items() if value is not None)
    at = when(event.at) if event.at else ""
    return [str(event.cursor), at, event.actor or "", event.kind, str(event.adapter or ""), details]


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _go_on(cursor: int, limit: int) -> None:
    next_step(f"adapters audit list --cursor {cursor} --limit {limit}")


@audit.command("verify", examples=["adapters audit verify"])
def verify(out: Output) -> None:
    """Recompute the chain of the whole log. The exit code is 1 if a line was changed or taken out."""
    with opened() as registry:
        found = registry.verify_audit()
    out.answer(asdict(found), lambda: say(f"{count(found.lines, 'line')} read"))
    if found.broken:
        raise AuditBroken(", ".join(map(str, found.broken[:10])), len(found.broken))
    if not out.as_json:
        say("all is as it was written")
