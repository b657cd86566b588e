"""gate and approve: what a version must show before an alias may point at it."""

import click

from cli.client import opened
from cli.command import Commands, command, name_argument, reference_argument
from cli.output import Output, next_step, say, table
from cli.text import count, when
from registry.domain.documents import approval_document, gate_document
from registry.domain.gates import Gate, Requirement
from registry.domain.reference import AdapterName, Reference


@click.group("gate", cls=Commands)
def gate() -> None:
    """Say what a version must show before an alias may point at it."""


@gate.command("set", examples=["adapters gate set demo/sentiment stable --require 'f1>=0.8' --dataset sst2"])
@name_argument()
@click.argument("alias", metavar="ALIAS", help="the alias that the gate stands before; it need not exist yet")
@click.option("--require", "texts", multiple=True, metavar="METRIC>=X", help="A bound, or METRIC<=X; may be repeated.")
@click.option("--dataset", help="What all of them must be measured on.")
@click.option("--dataset-sha256", metavar="HEX", help="The content that this data set must have had.")
@click.option("--approvals", type=click.IntRange(0, 100), default=0, help="How many others must approve.")
def gate_set(
    out: Output,
    name: AdapterName,
    alias: str,
    texts: tuple[str, ...],
    dataset: str | None,
    dataset_sha256: str | None,
    approvals: int,
) -> None:
    """Put a gate before an alias, in place of the one that is there.

    From now on `promote`, `push --alias` and `blend --alias` are refused while a version lacks something. Approvals
    count from others than the version's author and whoever promotes it. A rollback is never refused.
    """
    lines = [Requirement.parse(text, dataset=dataset, dataset_sha256=dataset_sha256) for text in texts]
    with opened() as registry:
        made = registry.set_gate(name, alias, lines, approvals=approvals)
    out.answer(gate_document(made), lambda: _table([made]), lambda: next_step(f"adapters gate show {made.adapter}"))


@gate.command("show", examples=["adapters gate show demo/sentiment"])
@name_argument()
def gate_show(out: Output, name: AdapterName) -> None:
    """Show the gates of an adapter."""
    with opened() as registry:
        found = registry.gates(name)
    out.answer(
        {"gates": [gate_document(line) for line in found]},
        lambda: _table(found) if found else say(f"{name} has no gates"),
    )


@gate.command("remove", examples=["adapters gate remove demo/sentiment stable"])
@name_argument()
@click.argument("alias", metavar="ALIAS", help="the alias that the gate stands before")
def gate_remove(out: Output, name: AdapterName, alias: str) -> None:
    """Take the gate before an alias away."""
    with opened() as registry:
        registry.remove_gate(name, alias)
    out.answer({"name": str(name), "alias": alias}, lambda: say(f"{name}@{alias} has no gate"))


@command("approve", "adapters approve demo/sentiment@v2 production --comment 'read 50 answers'")
@reference_argument()
@click.argument("alias", metavar="ALIAS", help="the alias that may point at it")
@click.option("--comment", default="", help="What you looked at; the audit log keeps it.")
def approve(out: Output, reference: Reference, alias: str, comment: str) -> None:
    """Say that a version may become what an alias points at.

    The version's author can't, and an approval of whoever promotes doesn't count.
    """
    with opened() as registry:
        given = registry.approve(reference, alias, comment=comment)
    out.answer(
        approval_document(given),
        lambda: say(f"{given.principal} approved {given.adapter}@v{given.version} for {given.alias}"),
        lambda: next_step(f"adapters promote {given.adapter}@v{given.version} {given.alias}"),
    )


def _table(gates: list[Gate]) -> None:
    rows = []
    for line in gates:
        required = "; ".join(map(str, line.requirements))
        rows.append([line.alias, required, count(line.approvals, "approval"), line.actor, when(line.at)])
    table(["alias", "requires", "approvals", "set by", "at"], rows)
