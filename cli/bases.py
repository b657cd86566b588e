"""base add, list, show and link: the base models that adapters are checked against."""

from collections.abc import Sequence
from pathlib import Path

import click

from cli.client import opened
from cli.command import Commands
from cli.facts import model_label
from cli.indexing import index_path
from cli.output import Output, facts, next_step, say, table
from cli.text import human_size, short_digest, when
from registry.domain.documents import base_document
from registry.domain.records import BaseModel


@click.group(cls=Commands)
def base() -> None:
    """Register base models, so that adapters are checked against them.

    The registry keeps a base's fingerprint and the names, shapes and digests of its tensors, never its weights.
    """


@base.command("add", examples=["adapters base add sentence-transformers/all-MiniLM-L6-v2 ./all-MiniLM-L6-v2"])
@click.argument("name", metavar="NAME", help="what adapters' configurations call it, as organisation/model")
@click.argument(
    "path",
    metavar="DIR|FILE",
    type=click.Path(exists=True, path_type=Path),
    help="a folder with safetensors files (sharded or diffusers too), one such file, or a GGUF file",
)
def add(out: Output, name: str, path: Path) -> None:
    """Register a base model under a name.

    Every tensor is hashed; the fingerprint doesn't depend on how the model is sharded. The same model under another
    name is one base with two names.
    """
    with opened() as registry:
        with out.progress() as progress:
            index = index_path(path, progress)
        added = registry.add_base(name, index)
    out.answer(
        base_document(added),
        lambda: facts(_facts(added)),
        lambda: next_step("adapters push PATH team/name"),
    )


def _facts(model: BaseModel) -> list[tuple[str, str]]:
    rows = [
        ("base", ", ".join(model.names) or short_digest(model.fingerprint)),
        ("digest", f"sha256:{model.fingerprint}"),
        ("format", f"{model.format}, {model.model_type or 'type unknown'}"),
        ("size", f"{human_size(model.size)}: {model.tensors:,} tensors, {model.parameters:,} parameters"),
        ("added", when(model.created_at)),
        ("copy of", f"sha256:{model.quantised_of}" if model.quantised_of else ""),
        ("succeeds", f"sha256:{model.succeeds}" if model.succeeds else ""),
    ]
    return [(label, value) for label, value in rows if value]


@base.command("list", examples=["adapters base list"])
def list_bases(out: Output) -> None:
    """List the registered base models."""
    with opened() as registry:
        known = registry.bases()
    out.answer({"bases": [base_document(model) for model in known]}, lambda: _table(known))


def _table(known: Sequence[BaseModel]) -> None:
    if not known:
        say("no base models here; `adapters base add NAME DIR` registers one")
        return
    rows = [
        [
            " ".join(model.names),
            short_digest(model.fingerprint),
            model.model_type or model.format,
            human_size(model.size),
        ]
        for model in known
    ]
    table(["base", "fingerprint", "type", "size"], rows, numbers=["size"])


@base.command("show", examples=["adapters base show sentence-transformers/all-MiniLM-L6-v2"])
@click.argument("name", metavar="NAME", help="a registered name, or sha256:<hex>")
def show(out: Output, name: str) -> None:
    """Show one base model."""
    with opened() as registry:
        model = registry.base(name)
    out.answer(base_document(model), lambda: facts(_facts(model)))


@base.command("link", examples=["adapters base link org/model-Q4 --quantised-of org/model"])
@click.argument("name", metavar="NAME", help="a registered name, or sha256:<hex>")
@click.option("--quantised-of", metavar="NAME", help="The base that this one is a quantised copy of.")
@click.option("--succeeds", metavar="NAME", help="The base that this one replaces.")
def link(out: Output, name: str, quantised_of: str | None, succeeds: str | None) -> None:
    """Record how a base model is related to another one."""
    with opened() as registry:
        linked = registry.link_base(name, quantised_of=quantised_of, succeeds=succeeds)
    out.answer(
        base_document(linked),
        lambda: facts(_facts(linked)),
        lambda: next_step(f"adapters base show {model_label(linked)}"),
    )
