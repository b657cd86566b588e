"""The engine: a pinned recipe and its loaded inputs in, one adapter and a report out.

Module by module, on the CPU or a GPU by the same code; `schedule` says how many at once. Sums stay concatenations of
ranks, a truncation is computed through the small core, every other method gives one low-rank delta, and what is stored
is rounded once. The same recipe and inputs give the same bits on the same kind of device. It reads and writes no files.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch

from composition.adapter import LoadedAdapter, Scale
from composition.agreement import agreed_forms, agreed_layout, check_biases, check_truncated
from composition.batches import Task
from composition.beginnings import check_beginnings
from composition.ia3 import compose_scales
from composition.module import ComposedModule, Made, Module
from composition.parents import Parents
from composition.replaced import ComposedTensor, compose_replacements
from composition.report import Report
from composition.schedule import Groups, choose_device, workers_of_machine
from composition.spelling import speller, spellings
from composition.terms import adapted_kinds, padded
from registry.domain.errors import InvalidRecipe, UnsupportedAdapter
from registry.domain.recipe import NOTHING_LEFT, Recipe, canonical, leaves
from registry.formats import peft

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much

_DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """A composed adapter, modules sorted by name, with what its configuration inherits from the inputs.

    `layout` is the format to write it in: PEFT's, or diffusers' as soon as an input says its modules' components.
    """

    modules: tuple[ComposedModule, ...]
    report: Report
    base_name: str | None
    base_revision: str | None
    task_type: str | None
    fan_in_fan_out: bool
    layout: str = peft.NAME
    replaced: tuple[ComposedTensor, ...] = ()
    scales: tuple[Scale, ...] = ()


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def compose(
    recipe: Recipe,
    inputs: Mapping[str, LoadedAdapter],
    *,
    device: str = "auto",
    every_entry: bool = False,
    workers: int | None = None,
    groups: Groups | None = None,
    progress: Progress = silent,
) -> Composition:
    """Compute a pinned recipe over inputs {content digest: adapter}.

    `every_entry`: the report counts conflicts of sign without sampling large modules.
    `workers` is the number of threads on a CPU, by default one for each core. `groups` bounds how many modules a GPU
    computes at once, and makes a CPU go the same way. None of them changes a bit of the result.
    Raises InvalidRecipe if it is not pinned, UnsupportedAdapter for inputs that don't go together and for a result that
    is zero, InvalidAdapter for numbers that don't fit the dtype.
    """
    if not recipe.is_pinned:
        raise InvalidRecipe("root", "only a pinned recipe can be composed")
    target = choose_device(device)
    root = canonical(recipe.root)
    used = {leaf.digest: inputs[leaf.digest] for leaf in leaves(root) if leaf.digest is not None}
    fan_in_fan_out = _agreed_fan_in(used.values())
    check_truncated(root, used)
    check_beginnings(root, used)
    names = spellings(used.values())
    forms = agreed_forms(used.values(), names)
    parents = Parents.of(root, every_entry=every_entry)
    layout = agreed_layout(used.values(), {name: forms[key] for key, name in names.items()})
    scales = compose_scales(root, used, spell=speller(used.values()), dtype=_DTYPES[recipe.dtype])
    replaced = compose_replacements(
        root,
        recipe.replacements,
        used,
        spell=speller(used.values()),
        adapted=adapted_kinds({name: forms[key] for key, name in names.items()}),
        dtype=_DTYPES[recipe.dtype],
    )
    work = [Module(key, name, used, parents, target) for key, name in names.items()]
    if groups is None and target.type == "cuda":
        groups = Groups()
    if any(module.is_dense for module in work):
        workers = 1  # each takes several times the memory of a matrix of the base
    task: Task[Made] = Task(root, forms, _DTYPES[recipe.dtype])
    made: list[Made] = []
    progress("composing", 0, len(names))
    for part in task.run(work, groups, workers or workers_of_machine()):
        made.append(part)
        progress("composing", len(made), len(names))
    made.sort(key=lambda part: part[0].name)
    modules, reports = [module for module, _ in made], [report for _, report in made]
    modules = modules if scales else _stored(modules)
    reports += [report for _, report in scales]
    summaries = [used[digest].summary for digest in sorted(used)]
    return Composition(
        modules=tuple(modules),
        report=Report(recipe.dtype, str(target), tuple(reports), tuple(parents.weights.items())),
        base_name=next((summary.base_name for summary in summaries if summary.base_name), None),
        base_revision=_common({summary.base_revision for summary in summaries}),
        task_type=_common({summary.task_type for summary in summaries}),
        fan_in_fan_out=fan_in_fan_out,
        layout=layout,
        replaced=replaced,
        scales=tuple(scale for scale, _ in scales),
    )


def _stored(modules: list[ComposedModule]) -> list[ComposedModule]:
    """What of the modules is stored: no deltas of zeros, but all experts of a stack, and a bias in all or in none."""
    if any(module.bias is not None for module in modules):
        kept = [_with_bias(module) for module in modules if module.delta.rank or module.bias is not None]
        check_biases([module.name for module in kept], [module.form for module in kept])
        return kept
    if not any(module.delta.rank for module in modules):
        raise UnsupportedAdapter(*NOTHING_LEFT)
    return [module for module in modules if module.delta.rank or module.form.kind == "parameter"]


def _with_bias(module: ComposedModule) -> ComposedModule:
    """The same module in an adapter with lora_bias; PEFT stores no rank 0."""
    delta = padded(module.delta, max(1, module.delta.rank))
    bias = delta.B.new_zeros(len(delta.B)) if module.bias is None else module.bias
    return replace(module, delta=delta, bias=bias)


def _common(values: set[str | None]) -> str | None:
    return values.pop() if len(values) == 1 else None


def _agreed_fan_in(adapters: Collection[LoadedAdapter]) -> bool:
    transposed = sorted(adapter.subject for adapter in adapters if adapter.fan_in_fan_out)
    if transposed and len(transposed) < len(adapters):
        reason = "it is set in this input and not in all others"
        raise UnsupportedAdapter(transposed[0], "fan_in_fan_out", reason)
    return bool(transposed)
