"""inspect: what an adapter is, from its configuration and tensor header, and from its weights where asked."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.client import opened
from cli.command import command
from cli.output import Output, facts, heading, table, warn
from cli.text import count, number, short_digest
from registry.domain.documents import module_document, summary_document
from registry.domain.errors import InvalidAdapter
from registry.domain.reference import Reference
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec, layers_alike

_NOTED = ("ss_", "modelspec.")
_SHOWN_LIMIT = 200  # characters: captions' statistics are longer
_SHOWN = ("modelspec.title", "modelspec.architecture", "ss_base_model_version", "ss_network_module", "ss_num_epochs")

if TYPE_CHECKING:
    from composition.inspect import AdapterStatistics, Statistics


@dataclass(frozen=True, slots=True)
class Subject:
    """What is inspected, and where it was found."""

    label: str
    where: str
    summary: AdapterSummary
    modules: tuple[ModuleSpec, ...]
    training: dict[str, str] = field(default_factory=dict)


@command("inspect", "adapters inspect ./sentiment", "adapters inspect demo/sentiment --weights")
@click.argument("subject", metavar="PATH|REF", help="a folder or file, or a reference; a path that exists wins")
@click.option("--weights", is_flag=True, help="Read the weights too: norms, spectra, true ranks, dead modules, NaN.")
def inspect(out: Output, subject: str, weights: bool) -> None:
    """Show what an adapter is: modules, ranks, scaling, variants.

    Only the configuration and the tensor header are read, so it costs the same for any size, unless --weights is given.
    `team/name@main` is always a reference, `./team/name` always a folder.
    """
    found = _of_folder(Path(subject)) if is_path(subject) else _of_reference(Reference.parse(subject))
    document = {
        found.where: found.label,
        **summary_document(found.summary),
        "training": found.training,
        "modules": [module_document(module) for module in found.modules],
    }
    if not weights:
        out.answer(document, lambda: _describe(found), lambda: _modules(found.modules))
        return
    measured = _measure(out, subject)
    document["weights"] = measured.document()
    out.answer(
        document,
        lambda: _describe(found),
        lambda: _statistics(measured),
        lambda: _whole(measured),
        lambda: _warn(measured),
    )


def is_path(text: str) -> bool:
    """Whether PATH|REF is a path: it begins like one, or there is such a folder or file."""
    return text.startswith((".", "/", "~")) or os.path.exists(text)  # noqa: PTH110  # a string, not yet a path


def _of_folder(folder: Path) -> Subject:
    from registry.service.inspection import inspect_folder  # lazy: start-up time
    from registry.service.workfolder import select_files  # lazy: start-up time

    folder = folder.expanduser()
    selection = select_files(folder)
    spec = inspect_folder(selection.folder, selection.kept)
    if spec is None:
        raise InvalidAdapter(str(folder), "there is no adapter_config.json in it and no weights")
    return Subject(str(folder), "folder", spec.summary, spec.modules, _trained_with(spec))


def _trained_with(spec: AdapterSpec) -> dict[str, str]:
    """What a trainer noted in the file (kohya's ss_*, modelspec.*), short enough to be shown."""
    noted = {key: value for key, value in spec.config.items() if key.startswith(_NOTED)}
    return {key: value for key, value in noted.items() if isinstance(value, str) and len(value) <= _SHOWN_LIMIT}


def _of_reference(reference: Reference) -> Subject:
    with opened() as registry:
        version = registry.find_version(reference)
        return Subject(version.reference, "version", version.summary, registry.modules(version))


def _describe(subject: Subject) -> None:
    summary, training = subject.summary, subject.training
    rows = [
        (subject.where, subject.label),
        ("format", f"{summary.format}, {summary.peft_type}" + (f", {summary.task_type}" if summary.task_type else "")),
        ("base", summary.base_name or "not named"),
        ("rank", f"{summary.rank}, alpha {number(summary.alpha)}, {summary.dtype}"),
        ("size", count(summary.parameters, "parameter")),
        ("targets", " ".join(summary.targets)),
        ("variants", " ".join(summary.variants) or "none: plain LoRA"),
        *((key.partition(".")[2] or key.removeprefix("ss_"), found) for key in _SHOWN if (found := training.get(key))),
    ]
    facts(rows)


def _measure(out: Output, subject: str) -> "AdapterStatistics":
    from composition.base_jobs import fetched  # lazy: start-up time
    from composition.inspect import inspect_weights  # lazy: start-up time

    adapter = Path(subject).expanduser() if is_path(subject) else Reference.parse(subject)
    with out.progress() as progress, fetched(opened, adapter, progress) as folder:
        return inspect_weights(folder, progress)


def _statistics(measured: "AdapterStatistics") -> None:
    unknown = sum(module.norm is None for module in measured.modules)
    known = f"norm {number(measured.norm)} in all" if unknown < len(measured.modules) else "no norm known"
    besides = f", without {unknown} of unknown norm" if 0 < unknown < len(measured.modules) else ""
    heading(f"{count(len(measured.modules), 'delta')}, {known}{besides}")
    columns = ["module", "rank", "norm", "largest", "stable", "effective"]
    table(columns, [_figures(module) for module in measured.modules], numbers=columns[1:])


def _figures(module: "Statistics") -> list[str]:
    if module.norm is None:
        why = "NaN" if module.not_finite else "—"
        return [module.module, str(module.rank), why, why, why, why]
    figures = [module.norm, module.singular[0], module.stable_rank or 0.0, module.effective_rank or 0.0]
    rank = str(module.rank) if module.numerical_rank == module.rank else f"{module.numerical_rank} of {module.rank}"
    return [module.module, rank, *(f"{figure:.4g}" for figure in figures)]


def _whole(measured: "AdapterStatistics") -> None:
    if measured.whole:
        heading(f"{count(len(measured.whole), 'tensor')} besides the factors")
        rows = [
            [tensor.name, f"{tensor.dtype} {list(tensor.shape)}", short_digest(tensor.sha256)]
            for tensor in measured.whole
        ]
        table(["tensor", "shape", "digest"], rows)
    if measured.tokenizer:
        heading("tokenizer")
        table(["file", "digest"], [[name, short_digest(digest)] for name, digest in measured.tokenizer.items()])


def _warn(measured: "AdapterStatistics") -> None:
    for finding in measured.findings:
        warn(finding)


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
