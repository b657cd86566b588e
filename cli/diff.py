"""diff: what differs between two versions, and how alike their deltas are."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import command, reference_argument
from cli.output import Output, draw, heading, say, table
from cli.text import number, short_digest
from registry.domain.errors import BaseConflict, FileNotInVersion, InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.records import Version
from registry.domain.reference import Reference
from registry.domain.spec import layers_alike

if TYPE_CHECKING:
    from cli.client import Opened
    from composition.similarity import Similarity


_SAME = "the contents are the same"
_INCOMPARABLE = (BaseConflict, FileNotInVersion, InvalidAdapter, RankMismatch, UnsupportedAdapter)


@command("diff", "adapters diff demo/sentiment@v1 demo/sentiment@v2")
@reference_argument("left", help="a version")
@reference_argument("right", "OTHER", help="the version to compare it with")
@click.option(
    "--weights/--no-weights",
    default=None,
    help="Compare the weights too, or don't; where it can be done unless said.",
)
def diff(out: Output, left: Reference, right: Reference, weights: bool | None) -> None:
    """Show what differs between two versions.

    They may belong to different adapters. Where they have the same base, their deltas are compared module by module.
    """
    with opened() as registry, out.progress() as progress:
        versions = registry.find_version(left), registry.find_version(right)
        document = registry.diff(*versions)
        found, why = ((), "") if weights is False else _compare(registry, *versions, progress, insist=bool(weights))
    out.answer(
        {**document, "weights": _document(found), "weights_left_out": why or None},
        lambda: _describe(document),
        lambda: _describe_weights(found, why),
    )


def _compare(
    registry: "Opened", left: Version, right: Version, progress: Any, *, insist: bool
) -> tuple[tuple["Similarity", ...], str]:
    """How alike the deltas are, or why that wasn't told."""
    if left.digest == right.digest:
        return (), _SAME
    try:
        import torch  # lazy: start-up time

        from composition.jobs import compare_versions  # lazy: start-up time
    except ModuleNotFoundError as error:
        if insist:
            raise
        return (), f"{error.name} is not installed"
    torch.set_num_threads(1)
    try:
        return compare_versions(registry, left, right, progress), ""
    except _INCOMPARABLE as error:
        if insist:
            raise
        return (), str(error)


def _document(found: Sequence["Similarity"]) -> dict[str, Any] | None:
    if not found:
        return None
    from composition.similarity import document  # lazy: start-up time

    return document(found)


def _describe(document: Mapping[str, Any]) -> None:
    names = (document["left"], document["right"])
    parts = {key: document[key] for key in ("facts", "files", "modules")}
    if not any(parts.values()):
        say(f"{names[0]} and {names[1]} do not differ")
        return
    say(f"{names[0]} → {names[1]}")
    for key, changed in parts.items():
        if changed:
            heading(f"{key} that differ: {len(changed)}")
            rows = [
                [layers_alike(name) if key == "modules" else name, *map(_cell, pair)] for name, pair in changed.items()
            ]
            table([key.removesuffix("s"), *names], list(dict.fromkeys(map(tuple, rows))))


def _cell(value: Any) -> str:
    if value is None:
        return "—"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items() if item != "linear")
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, float):
        return number(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return short_digest(text) if len(text) == 64 else text


def _describe_weights(found: Sequence["Similarity"], why: str) -> None:
    if why and why != _SAME:
        say(f"the weights were not compared: {why}")
    if not found:
        return
    from cli import heat  # lazy: start-up time

    heading("how alike the deltas are, layer by layer")
    draw(heat.strip({module.module: _cell_of(module) for module in found}))
    heading("all layers together: the second norm over the first, and how far their spaces overlap")
    groups: dict[str, list[Similarity]] = {}
    for module in found:
        groups.setdefault(layers_alike(module.module), []).append(module)
    rows = [_row(name, modules) for name, modules in groups.items()]
    rows += [_row("all", found)] if len(groups) > 1 else []
    columns = ["module", "n", "cosine", "norms", "out", "in"]
    table(columns, rows, numbers=columns[1:])


def _cell_of(module: "Similarity") -> float | str | None:
    left, right = module.norms
    if left is None or right is None:
        return ">" if left is None else "<"
    return module.cosine


def _row(name: str, modules: Sequence["Similarity"]) -> list[str]:
    from composition.similarity import cosine, mean_overlap, norm_ratio  # lazy: start-up time

    figures = [cosine(modules), norm_ratio(modules), *mean_overlap(modules)]
    return [name, str(len(modules)), *("—" if figure is None else f"{figure:.3f}" for figure in figures)]
