"""promote and rollback: moving aliases."""

import click

from cli.client import opened
from cli.command import REFERENCE, command, name_argument, reference_argument
from cli.facts import move_text
from cli.output import Output, next_step, say
from registry.domain.documents import move_document
from registry.domain.records import AliasMove
from registry.domain.reference import AdapterName, Reference

_expect = click.option(
    "--expect",
    "expected",
    metavar="SEQ",
    type=click.IntRange(min=0),
    help="Only if the alias is still at this sequence number; 0: only if there is none yet.",
)
_reason = click.option("--reason", help="Why; the history keeps it.")


@command("promote", "adapters promote demo/sentiment@v2 production --expect 2")
@reference_argument()
@click.argument("alias", metavar="ALIAS", help="the alias to move; it is created if there is none")
@_expect
@_reason
@click.option("--across-bases", is_flag=True, help="Allow a version with another base model than the present one.")
@click.option("--override-gate", is_flag=True, help="Pass a closed gate; takes an admin and --reason.")
def promote(
    out: Output,
    reference: Reference,
    alias: str,
    expected: int | None,
    reason: str | None,
    across_bases: bool,
    override_gate: bool,
) -> None:
    """Point an alias at a version.

    With --expect, of several who decided on the same state only the first succeeds; the others get exit code 5.
    """
    with opened() as registry:
        move = registry.promote(
            reference, alias, expected=expected, reason=reason, across_bases=across_bases, override_gate=override_gate
        )
    out.answer(move_document(move), lambda: _describe(move))


@command("rollback", 'adapters rollback demo/sentiment production --reason "worse on live traffic"')
@name_argument()
@click.argument("alias", metavar="ALIAS", help="the alias to move back")
@click.option("--to", metavar="REF", type=REFERENCE, help="Go back to this earlier target instead of the last one.")
@_expect
@_reason
def rollback(
    out: Output, name: AdapterName, alias: str, to: Reference | None, expected: int | None, reason: str | None
) -> None:
    """Point an alias back at the version before.

    Targets that were withdrawn meanwhile are skipped; a second rollback goes one step further back.
    """
    with opened() as registry:
        move = registry.rollback(name, alias, to=to, expected=expected, reason=reason)
    out.answer(move_document(move), lambda: _describe(move))


def _describe(move: AliasMove) -> None:
    say(move_text(move))
    next_step(f"adapters resolve {move.adapter}@{move.alias}")
