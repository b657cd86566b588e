"""inspect: what an adapter is, from its configuration and tensor header; no weight is read."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from cli.client import opened
from cli.command import command
from cli.documents import module_document, summary_document
from cli.facts import layers_alike
from cli.output import Output, facts, heading, table
from cli.text import count, number
from registry.domain.errors import InvalidAdapter
from registry.domain.reference import Reference
from registry.domain.spec import AdapterSummary, ModuleSpec


@dataclass(frozen=True, slots=True)
class Subject:
    """What is inspected, and where it was found."""

    label: str
    where: str
    summary: AdapterSummary
    modules: tuple[ModuleSpec, ...]


@command("inspect", "adapters inspect ./sentiment")
@click.argument("subject", metavar="PATH|REF", help="a folder, or a reference; a folder that exists wins")
def inspect(out: Output, subject: str) -> None:
    """Show what an adapter is: modules, ranks, scaling, variants.

    Only the configuration and the tensor header are read, so it costs the same for any size. `team/name@main` is
    always a reference, `./team/name` always a folder.
    """
    found = _of_folder(Path(subject)) if _is_folder(subject) else _of_reference(Reference.parse(subject))
    document = {
        found.where: found.label,
        **summary_document(found.summary),
        "base_name": found.summary.base_name,
        "modules": [module_document(module) for module in found.modules],
    }
    out.answer(document, lambda: _describe(found), lambda: _modules(found.modules))


def _is_folder(text: str) -> bool:
    return text.startswith((".", "/", "~")) or os.path.isdir(text)  # noqa: PTH112  # a string, not yet a path


def _of_folder(folder: Path) -> Subject:
    from registry.service.inspection import inspect_folder  # lazy: start-up time
    from registry.service.workfolder import select_files  # lazy: start-up time

    folder = folder.expanduser()
    spec = inspect_folder(folder, select_files(folder).kept)
    if spec is None:
        raise InvalidAdapter(str(folder), "there is no adapter_config.json in it and no weights")
    return Subject(str(folder), "folder", spec.summary, spec.modules)


def _of_reference(reference: Reference) -> Subject:
    with opened() as registry:
        version = registry.find_version(reference)
        return Subject(version.reference, "version", version.summary, registry.modules(version))


def _describe(subject: Subject) -> None:
    summary = subject.summary
    rows = [
        (subject.where, subject.label),
        ("format", f"{summary.format}, {summary.peft_type}" + (f", {summary.task_type}" if summary.task_type else "")),
        ("base", summary.base_name or "not named"),
        ("rank", f"{summary.rank}, alpha {number(summary.alpha)}, {summary.dtype}"),
        ("size", count(summary.parameters, "parameter")),
        ("targets", " ".join(summary.targets)),
        ("variants", " ".join(summary.variants) or "none: plain LoRA"),
    ]
    facts(rows)


def _modules(modules: Sequence[ModuleSpec]) -> None:
    heading(f"{count(len(modules), 'module')} (* stands for a layer's number)")
    columns = ["module", "n", "rank", "scale", "in → out", "what else"]
    table(columns, [[name, str(n), *row] for (name, *row), n in _grouped(modules)], numbers=["n", "rank"])


def _grouped(modules: Iterable[ModuleSpec]) -> list[tuple[tuple[str, ...], int]]:
    """Modules that differ only in their layer's number, as one row each, with how many there are."""
    rows: dict[tuple[str, ...], int] = {}
    for module in modules:
        row = _row(module)
        rows[row] = rows.get(row, 0) + 1
    return list(rows.items())


def _row(module: ModuleSpec) -> tuple[str, ...]:
    lora = module.rank > 0
    return (
        layers_alike(module.name),
        str(module.rank) if lora else "—",
        number(module.scaling) if lora else "—",
        f"{module.in_features} → {module.out_features}",
        " ".join([*([] if module.kind == "linear" else [module.kind]), *module.variants]),
    )
