"""list and search: pages of adapters and of versions."""

import re
import shlex
from collections.abc import Sequence
from typing import Any

import click

from cli.client import opened
from cli.command import command
from cli.facts import base_cell
from cli.output import Output, next_step, say, table
from cli.text import human_size, short_digest
from registry.domain.documents import adapter_document, version_document
from registry.domain.records import Adapter, Page, SearchQuery, Status, Version

_RANKS = re.compile(r"([0-9]{1,6})|([0-9]{0,6})\.\.([0-9]{0,6})", re.ASCII)
_LIMIT = click.IntRange(1, 1000)


class RankRange(click.ParamType[tuple[int | None, int | None]]):
    """N, or MIN..MAX with either end left open."""

    name = "N|MIN..MAX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | None, int | None]:
        if isinstance(value, tuple):
            return value
        match = _RANKS.fullmatch(value)
        if match is None or value == "..":
            self.fail(f"{value!r} is neither a rank nor a range: write 8, 8..16, 8.. or ..16", param, ctx)
        exact, least, most = match.groups()
        if exact:
            return int(exact), int(exact)
        return int(least) if least else None, int(most) if most else None


class LeastMetric(click.ParamType[tuple[str, float]]):
    """name>=x."""

    name = "name>=x"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        if isinstance(value, tuple):
            return value
        name, _, least = value.partition(">=")
        try:
            return name.strip(), float(least)
        except ValueError:
            self.fail(f"{value!r} is not name>=x, with a number", param, ctx)


@command("list", "adapters list demo")
@click.argument("team", required=False, metavar="[TEAM]", help="only this team's adapters")
@click.option("--limit", type=_LIMIT, default=100, show_default=True, help="How many to show at most.")
@click.option("--cursor", help="Where to go on, as the page before printed it.")
@click.pass_context
def list_adapters(context: click.Context, /, out: Output, team: str | None, limit: int, cursor: str | None) -> None:
    """List the adapters and their newest versions."""
    with opened() as registry:
        page = registry.listing(team=team, cursor=cursor, limit=limit)
    documents = [adapter_document(adapter, newest) for adapter, newest in page.items]
    out.answer(
        {"adapters": documents, "cursor": page.cursor},
        lambda: _adapter_table(page.items),
        lambda: _go_on(context, page),
    )


def _adapter_table(adapters: Sequence[tuple[Adapter, Version | None]]) -> None:
    if not adapters:
        say("no adapters here; `adapters push PATH team/name` publishes one")
        return
    rows = [_adapter_row(adapter, newest) for adapter, newest in adapters]
    table(["adapter", "newest", "rank", "base", "evidence", "aliases"], rows, numbers=["rank"])


def _adapter_row(adapter: Adapter, version: Version | None) -> list[str]:
    aliases = " ".join(f"{name}=v{number}" for name, number in sorted(adapter.aliases.items()))
    if version is None:
        base = f"is {short_digest(adapter.holds)}" if adapter.holds else "—"
        return [str(adapter.name), "—", "—", base, "—", aliases]
    status = "" if version.status is Status.ACTIVE else f" {version.status.value}"
    shape = [f"v{version.number}{status}", str(version.summary.rank)]
    return [str(adapter.name), *shape, base_cell(version.base), version.base.evidence.value, aliases]


@command("search", "adapters search --rank 8..16 --target query --metric 'accuracy>=0.8'")
@click.option("--base", help="Only versions for this base: a name or sha256:<hex>.")
@click.option(
    "--rank", type=RankRange(), default=(None, None), help="Only this rank, or this range: 8, 8..16, 8.., ..16."
)
@click.option("--target", "targets", multiple=True, help="Only versions that adapt this module; may be repeated.")
@click.option("--text", help="Words in the name, the message or the metadata.")
@click.option(
    "--metric", "metrics", type=LeastMetric(), multiple=True, help="Only versions measured so well; may be repeated."
)
@click.option("--team", help="Only this team's adapters.")
@click.option(
    "--status",
    type=click.Choice([*(status.value for status in Status), "any"]),
    default=Status.ACTIVE.value,
    show_default=True,
    help="Only versions of this status.",
)
@click.option("--limit", type=_LIMIT, default=50, show_default=True, help="How many to show at most.")
@click.option("--cursor", help="Where to go on, as the page before printed it.")
@click.pass_context
def search(
    context: click.Context, /, out: Output, rank: tuple[int | None, int | None], status: str, **given: Any
) -> None:
    """Find versions by base, rank, target modules, text, metric or status.

    Everything asked for must hold; the newest come first.
    """
    query = SearchQuery(rank_min=rank[0], rank_max=rank[1], status=None if status == "any" else Status(status), **given)
    with opened() as registry:
        page = registry.search(query)
    out.answer(
        {"versions": [version_document(version) for version in page.items], "cursor": page.cursor},
        lambda: _version_table(page.items),
        lambda: _go_on(context, page),
    )


def _version_table(versions: Sequence[Version]) -> None:
    if not versions:
        say("nothing fits; `adapters list` shows what there is")
        return
    columns = ["version", "rank", "base", "evidence", "targets", "size", "status"]
    rows = [_version_row(version) for version in versions]
    if all(version.status is Status.ACTIVE for version in versions):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    table(columns, rows, numbers=["rank", "size"])


def _version_row(version: Version) -> list[str]:
    summary = version.summary
    base = [base_cell(version.base), version.base.evidence.value]
    rest = [human_size(version.size), version.status.value]
    return [version.reference, str(summary.rank), *base, " ".join(summary.targets), *rest]


def _go_on(context: click.Context, page: Page[Any]) -> None:
    if page.cursor:
        next_step(shlex.join(["adapters", *_without_cursor(context.find_root().obj), "--cursor", page.cursor]))


def _without_cursor(arguments: Sequence[str]) -> list[str]:
    kept = [argument for argument in arguments if not argument.startswith("--cursor=")]
    if "--cursor" in kept:
        at = kept.index("--cursor")
        del kept[at : at + 2]
    return kept
