"""eval, yank, release, revoke and verify: looking after what is there."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.browse import evaluation_table
from cli.client import opened, refuse_on_server
from cli.command import ASSIGNMENT, FILE, Commands, command, reference_argument
from cli.facts import status_text
from cli.output import Output, facts, heading, next_step, say, table
from cli.text import count, human_size, short_digest
from registry.domain.documents import evaluation_document, version_document
from registry.domain.errors import DamageFound, WrongUsage
from registry.domain.examples import LONGEST, parse_examples
from registry.domain.records import Status, Version
from registry.domain.reference import Reference, Selector

if TYPE_CHECKING:
    from registry.service.integrity import Repair, Verification

_LARGEST_FILE = 4 * LONGEST  # bytes: what is kept has no blanks


@click.group("eval", cls=Commands)
def evaluation() -> None:
    """Record and list what was measured of versions."""


@evaluation.command(
    "add",
    examples=["adapters eval add demo/sentiment@v1 accuracy=0.842 loss=0.41 --dataset sst2"],
)
@reference_argument()
@click.argument("metrics", metavar="NAME=VALUE", type=ASSIGNMENT, nargs=-1, help="what was measured")
@click.option("--dataset", help="What it was measured on.")
@click.option("--dataset-sha256", metavar="HEX", help="The content of that data set, for gates that ask for it.")
@click.option(
    "--examples", type=FILE, help='Results of single examples: JSON, a list or lines of {"id", metric: value}.'
)
def eval_add(
    out: Output,
    reference: Reference,
    metrics: tuple[tuple[str, str], ...],
    dataset: str | None,
    dataset_sha256: str | None,
    examples: Path | None,
) -> None:
    """Record what was measured of a version.

    `adapters search --metric` finds versions by it; the newest value of a metric counts. With the results of single
    examples, on a data set whose content is given, `adapters compare` says how sure a difference is. A metric that
    only they have is recorded as their mean.
    """
    values = {name: _number(name, text) for name, text in metrics}
    if len(values) < len(metrics):
        raise WrongUsage("a metric is given twice")
    with opened() as registry:
        recorded = registry.evaluate(
            reference, values, dataset=dataset, dataset_sha256=dataset_sha256, examples=_examples(examples)
        )
    of_examples = f" and of {count(recorded.examples.count, 'example')}" if recorded.examples else ""
    measured = f"{count(len(recorded.metrics), 'metric')} of {recorded.adapter}@v{recorded.version}{of_examples}"
    out.answer(
        evaluation_document(recorded),
        lambda: say(f"recorded {measured}"),
        lambda: next_step(f"adapters eval list {recorded.adapter}@v{recorded.version}"),
    )


def _examples(path: Path | None) -> list[Any]:
    if path is None:
        return []
    if path.stat().st_size > _LARGEST_FILE:
        raise WrongUsage(f"{path} is larger than {human_size(_LARGEST_FILE)}: too much for results of examples")
    try:
        return parse_examples(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise WrongUsage(f"{path} is not UTF-8 text") from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise WrongUsage(f"the metric {name!r} is {text!r}, not a number") from None


@evaluation.command("list", examples=["adapters eval list demo/sentiment@v1"])
@reference_argument()
def eval_list(out: Output, reference: Reference) -> None:
    """List what was measured of a version, newest first."""
    with opened() as registry:
        version = registry.find_version(reference)
        evaluations = registry.evaluations(version)
    out.answer(
        {"evaluations": [evaluation_document(recorded) for recorded in evaluations]},
        lambda: evaluation_table(evaluations) if evaluations else say(f"nothing was measured of {version.reference}"),
    )


def _status_parameters(function: Callable[..., None]) -> Callable[..., None]:
    reason = click.option("--reason", required=True, help="Why; everybody who looks the version up can read it.")
    pin = reference_argument(help="one exact version, as team/name@v3")
    return pin(reason(function))


_force = click.option("--force", is_flag=True, help="Even if an alias points at it, which then leads nowhere.")


@command("yank", 'adapters yank demo/sentiment@v2 --reason "trained on leaked data"')
@_status_parameters
@_force
def yank(out: Output, reference: Reference, reason: str, force: bool) -> None:
    """Hide a version from every look-up but an exact one.

    Whoever pinned it can still pull it. `adapters release` takes it back.
    """
    _set_status(out, reference, Status.YANKED, reason=reason, force=force)


@command("revoke", 'adapters revoke demo/sentiment@v2 --reason "licence withdrawn"')
@_status_parameters
@_force
def revoke(out: Output, reference: Reference, reason: str, force: bool) -> None:
    """Withdraw a version for good: it can't be read any more.

    This can't be taken back; to hide a version from newcomers only, yank it.
    """
    _set_status(out, reference, Status.REVOKED, reason=reason, force=force)


@command("release", 'adapters release demo/sentiment@v3 --reason "cleared by review"')
@_status_parameters
def release(out: Output, reference: Reference, reason: str) -> None:
    """Make a yanked or quarantined version active again."""
    _set_status(out, reference, Status.ACTIVE, reason=reason, force=False)


def _set_status(out: Output, reference: Reference, status: Status, *, reason: str, force: bool) -> None:
    if reference.selector in (Selector.MAIN, Selector.ALIAS):
        # What they lead to changes, not least by this very command: a repetition would hit another version.
        raise WrongUsage(f"{reference} may mean another version tomorrow; name an exact one, as {reference.adapter}@v1")
    with opened() as registry:
        version = registry.set_status(reference, status, reason=reason, force=force)
    out.answer(version_document(version, files=True), lambda: _describe_status(version))


def _describe_status(version: Version) -> None:
    say(f"{version.reference} is now {status_text(version)}")
    next_step(f"adapters history {version.adapter}")


@command("verify", "adapters verify --deep")
@reference_argument(required=False, metavar="[REF]", help="only this version's files")
@click.option("--deep", is_flag=True, help="Read every byte and compare its sha256.")
def verify(out: Output, reference: Reference | None, deep: bool) -> None:
    """Check that every stored byte is still there and unchanged.

    Without REF, all of the registry. Damage is listed with every version and alias that it hits; the exit code is
    then 1.
    """
    with opened() as registry, out.progress() as progress:
        version = registry.peek(reference) if reference else None
        found = registry.verify(version, deep=deep, progress=progress)
    out.answer({**asdict(found), "damage": [asdict(damage) for damage in found.damage]}, lambda: _describe_check(found))
    if found.damage:
        raise DamageFound(len(found.damage), found.blobs)


@command("repair", "adapters repair --from file:///mnt/backup/blobs")
@click.option("--from", "source", required=True, metavar="URL", help="Another store, as in ADAPTERS_BLOBS_URL.")
def repair(out: Output, source: str) -> None:
    """Replace what `verify` found damaged by what another store has.

    Each blob's bytes are verified before they take the place of damaged ones. What is whole again is served again.
    """
    refuse_on_server(
        "repair", "the other store's credentials are this machine's", "run it where the server's settings are"
    )
    from registry.blobs.locate import open_store  # lazy: start-up time

    store = open_store(source)
    with opened() as registry, out.progress() as progress:
        found = registry.repair(store, progress=progress)  # type: ignore[union-attr]
    out.answer(asdict(found), lambda: _describe_repair(found))
    if found.left:
        raise DamageFound(len(found.left), len(found.left) + len(found.repaired))


def _describe_repair(found: "Repair") -> None:
    say(f"{count(len(found.repaired), 'blob')} repaired" if found.repaired else "nothing was repaired")
    for sha256 in found.left:
        say(f"{short_digest(sha256)} is damaged, and the other store hasn't it whole")


def _describe_check(found: "Verification") -> None:
    how = "every byte read and hashed" if found.deep else "presence and sizes; --deep reads every byte"
    facts([("checked", f"{count(found.blobs, 'blob')}, {human_size(found.bytes)}: {how}")])
    if not found.damage:
        say("all is well")
        return
    heading("damage")
    rows = [[short_digest(d.sha256), d.problem, " ".join(d.versions), " ".join(d.aliases)] for d in found.damage]
    table(["blob", "problem", "versions", "aliases"], rows)
