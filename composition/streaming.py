"""Composing into a folder: modules go to the disk as they are computed, and no more than a few are in memory.

Where modules decide of each other (biases, experts' ranks, what is replaced) and on a GPU, whose groups come in an
order of their own, the result is put together first. Both give the same files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from composition.adapter import LoadedAdapter
from composition.engine import Composition, Prepared, Progress, prepare, silent
from composition.files import module_tensors, save_composition, save_config, weights_place
from composition.module import Made
from composition.tensor_file import TensorFile, outline, tensor_file
from registry.domain.recipe import Recipe
from registry.formats import peft


def compose_into(
    folder: Path,
    recipe: Recipe,
    inputs: Mapping[str, LoadedAdapter],
    *,
    device: str = "auto",
    every_entry: bool = False,
    workers: int | None = None,
    base_name: str | None = None,
    durable: bool = False,
    progress: Progress = silent,
) -> Composition:
    """Compute a pinned recipe, see `compose`, and write the result into an existing folder, see `save_composition`.

    `base_name` is what the result calls its base if no input does. `durable`: the weights are on the disk when this
    returns, and not only in the system's memory. Of the composition that is returned, modules may have shapes only.
    """
    prepared = prepare(recipe, inputs, device=device, every_entry=every_entry)
    expected = prepared.outline() if prepared.device.type == "cpu" else None
    made = prepared.modules(workers=workers, progress=progress)
    if expected is None:
        composition = _named(prepared.composition(made), base_name)
        save_composition(composition, folder)
        return composition
    path, metadata = weights_place(prepared.layout, prepared.base_name or base_name)
    header = [outline(*item) for item in module_tensors(expected, prepared.layout)]
    with tensor_file(folder / path, header, metadata, durable=durable) as file:
        composition = _named(prepared.composition(_written(made, file, prepared)), base_name)
    if prepared.layout == peft.NAME:
        save_config(composition, folder)
    return composition


def _written(made: Iterator[Made], file: TensorFile, prepared: Prepared) -> Iterator[Made]:
    for module, report in made:
        if module.delta.rank:
            for name, tensor in module_tensors([module], prepared.layout):
                file.add(name, tensor)
        yield module.without_numbers(), report


def _named(composition: Composition, base_name: str | None) -> Composition:
    return replace(composition, base_name=composition.base_name or base_name)
