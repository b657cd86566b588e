"""base add, list, show, publish and link: the base models that adapters are checked against."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.client import opened
from cli.command import ADAPTER_NAME, FOLDER, Commands
from cli.facts import model_label
from cli.indexing import index_path
from cli.output import Output, facts, next_step, say, table
from cli.text import human_size, short_digest, when
from registry.domain.documents import base_document, shown_base_document
from registry.domain.records import BaseModel
from registry.domain.reference import AdapterName

if TYPE_CHECKING:
    from registry.service.publishing import Publication


@click.group(cls=Commands)
def base() -> None:
    """Register and publish base models, which adapters are checked against.

    Of a registered base the registry keeps the fingerprint and the names, shapes and digests of its tensors. Its
    weights are kept where somebody publishes them.
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
    """Show one base model, and where its files are published."""
    with opened() as registry:
        model = registry.base(name)
        places = registry.base_places(model)
    published = [("published", f"{place.name}@{place.commit}") for place in places]
    out.answer(shown_base_document(model, places), lambda: facts([*_facts(model), *published]))


@base.command("publish", examples=["adapters base publish ./minilm models/minilm"])
@click.argument("folder", metavar="DIR", type=FOLDER, help="a folder with a whole model's safetensors files")
@click.argument("name", metavar="TEAM/NAME", type=ADAPTER_NAME, help="where to publish it; no adapters may be there")
@click.option("--as", "label", metavar="NAME", help="The base that it must be, or that it becomes.")
@click.option("--message", default="", help="What this model is.")
def publish(out: Output, folder: Path, name: AdapterName, label: str | None, message: str) -> None:
    """Publish a base model's files, so that tools load them from here as from the Hugging Face Hub.

    Every tensor is hashed where it is stored, and the model must be a registered base; an operator's is registered with
    it, under --as or else under TEAM/NAME. It makes no version: adapters and a base model never share a name. Nothing
    that the team has is sent again, and what was cut off goes on.
    """
    with opened() as registry, out.progress() as progress:
        from registry.service.bases import BaseClaim  # lazy: start-up time
        from registry.service.publishing import Submission  # lazy: start-up time

        submission = Submission(name, (), base=BaseClaim(label) if label else None, message=message)
        publication = registry.publish_base(folder, submission, progress=progress)
        model = registry.base(f"sha256:{publication.base}")
    out.answer(
        {**publication.document, "model": base_document(model)}, lambda: describe_published(name, publication, model)
    )


def describe_published(name: AdapterName, publication: "Publication", model: BaseModel) -> None:
    """Tell people what was published, and under which names it is known."""
    known = "" if publication.created else " (this content was there already)"
    facts([("published", f"{name}@{publication.commit}{known}"), *_facts(model)])
    if publication.left_out:
        say(f"left out, as no part of the model: {', '.join(publication.left_out)}")
    next_step(f"HF_ENDPOINT=URL HF_TOKEN=TOKEN, and then from_pretrained({str(name)!r})")


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
