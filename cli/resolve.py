"""resolve: the look-up of serving stacks. Loads as little as it can."""

from typing import Any

import click

from cli.client import opened
from cli.command import command, reference_argument
from cli.output import Facts, Output, facts
from registry.domain.engines import Engine
from registry.domain.reference import Reference


@command("resolve", "adapters resolve demo/sentiment@production --max-rank 16")
@reference_argument()
@click.option("--max-rank", type=click.IntRange(min=1), help="The largest rank that the caller can serve.")
@click.option("--base", help="The base model that the caller serves: a registered name or sha256:<hex>.")
@click.option(
    "--engine", type=click.Choice(list(Engine), case_sensitive=False), help="Say what this engine makes of the adapter."
)
def resolve(out: Output, reference: Reference, max_rank: int | None, base: str | None, engine: Engine | None) -> None:
    """Look up what a serving stack must know before it loads a version.

    Refused, with exit code 4, if the version doesn't fit what the caller serves.
    """
    with opened() as registry:
        document = registry.resolve(reference, max_rank=max_rank, base=base, engine=engine)
    out.answer(document, lambda: facts(_facts(document)))


def _facts(document: dict[str, Any]) -> Facts:
    base = document["base"]
    rows = [
        ("version", f"{document['name']}@v{document['version']}"),
        ("commit", document["commit"]),
        ("digest", document["digest"]),
        ("serving", document["serving_name"]),
        ("status", document["status"]),
        ("base", f"{base['name'] or 'unknown'} · {base['evidence']}"),
        ("rank", f"{document['rank']}, alpha {document['alpha']:g}, {document['dtype']}"),
        ("targets", " ".join(document["targets"])),
    ]
    if document["alias"]:
        rows.insert(1, ("alias", f"{document['alias']} (seq {document['seq']})"))
    if document["variants"]:
        rows.append(("variants", " ".join(document["variants"])))
    rows.append(("size", f"{document['size']} bytes in {len(document['files'])} files"))
    if compat := document["engine_compat"]:
        rows.extend((compat["engine"], text) for text in compat["reasons"] or ["serves it as it is"])
    rows.extend(("parent", f"{parent['name']}@v{parent['version']}") for parent in document["parents"])
    return rows
