"""The engine: a pinned recipe and its loaded inputs in, one adapter and a report out.

Module by module, on the CPU or a GPU by the same code; `schedule` says how many at once. Sums stay concatenations of
ranks, a truncation is computed through the small core, every other method gives one low-rank delta, and what is stored
is rounded once. The same recipe and inputs give the same bits on the same kind of device. It reads and writes no files.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from composition.report import ModuleReport, Report
from composition.schedule import Groups, choose_device, workers_of_machine
from composition.spelling import speller, spellings
from composition.terms import Form, adapted_kinds, padded
from registry.domain.errors import InvalidRecipe, UnsupportedAdapter
from registry.domain.recipe import NOTHING_LEFT, Node, Recipe, canonical, leaves
from registry.domain.spec import AdapterSummary
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
    Modules that were written already, see `streaming`, have shapes only.
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


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A composition whose inputs go together, before any delta is computed.

    `names` are those of the result's modules by key, in the order of their tensors in a file; `forms` are by key too.
    """

    recipe: Recipe
    root: Node
    inputs: Mapping[str, LoadedAdapter]
    device: torch.device
    parents: Parents
    names: Mapping[str, str]
    forms: Mapping[str, Form]
    layout: str
    replaced: tuple[ComposedTensor, ...]
    scales: Sequence[tuple[Scale, ModuleReport]]

    @property
    def dtype(self) -> torch.dtype:
        return _DTYPES[self.recipe.dtype]

    @property
    def base_name(self) -> str | None:
        return next((summary.base_name for summary in self._summaries if summary.base_name), None)

    @property
    def _summaries(self) -> list[AdapterSummary]:
        return [self.inputs[digest].summary for digest in sorted(self.inputs)]

    @property
    def work(self) -> list[Module]:
        return [Module(key, name, self.inputs, self.parents, self.device) for key, name in self.names.items()]

    def outline(self) -> list[ComposedModule] | None:
        """The modules as large as they can come out, without their numbers; None where one decides of another."""
        work = self.work
        if self.scales or self.replaced or any(module.has_bias for module in work):
            return None
        if any(self.forms[module.key].kind == "parameter" for module in work):
            return None
        return [module.outline(self.root, form=self.forms[module.key], dtype=self.dtype) for module in work]

    def modules(
        self, *, workers: int | None = None, groups: Groups | None = None, progress: Progress = silent
    ) -> Iterator[Made]:
        """Each module of the result with its report: on a CPU without groups in the order of `names`."""
        work = self.work
        if groups is None and self.device.type == "cuda":
            groups = Groups()
        if any(module.is_dense for module in work):
            workers = 1  # each takes several times the memory of a matrix of the base
        task: Task[Made] = Task(self.root, self.forms, self.dtype)
        progress("composing", 0, len(work))
        for done, made in enumerate(task.run(work, groups, workers or workers_of_machine()), 1):
            yield made
            progress("composing", done, len(work))

    def composition(self, made: Iterable[Made]) -> Composition:
        """Everything put together. Raises UnsupportedAdapter for a result that is zero."""
        parts = sorted(made, key=lambda part: part[0].name)
        modules = [module for module, _ in parts]
        reports = [report for _, report in (*parts, *self.scales)]
        return Composition(
            modules=tuple(modules if self.scales else _stored(modules)),
            report=Report(self.recipe.dtype, str(self.device), tuple(reports), tuple(self.parents.weights.items())),
            base_name=self.base_name,
            base_revision=_common({summary.base_revision for summary in self._summaries}),
            task_type=_common({summary.task_type for summary in self._summaries}),
            fan_in_fan_out=_agreed_fan_in(self.inputs.values()),
            layout=self.layout,
            replaced=self.replaced,
            scales=tuple(scale for scale, _ in self.scales),
        )


def prepare(
    recipe: Recipe, inputs: Mapping[str, LoadedAdapter], *, device: str = "auto", every_entry: bool = False
) -> Prepared:
    """Check that a pinned recipe's inputs {content digest: adapter} go together; see `compose`."""
    if not recipe.is_pinned:
        raise InvalidRecipe("root", "only a pinned recipe can be composed")
    target = choose_device(device)
    root = canonical(recipe.root)
    used = {leaf.digest: inputs[leaf.digest] for leaf in leaves(root) if leaf.digest is not None}
    _agreed_fan_in(used.values())
    check_truncated(root, used)
    check_beginnings(root, used)
    names = spellings(used.values())
    forms = agreed_forms(used.values(), names)
    by_name = {name: forms[key] for key, name in names.items()}
    dtype, spell = _DTYPES[recipe.dtype], speller(used.values())
    return Prepared(
        recipe=recipe,
        root=root,
        inputs=used,
        device=target,
        parents=Parents.of(root, every_entry=every_entry),
        names=dict(sorted(names.items(), key=lambda item: f"{item[1]}.lora")),
        forms=forms,
        layout=agreed_layout(used.values(), by_name),
        scales=compose_scales(root, used, spell=spell, dtype=dtype),
        replaced=compose_replacements(
            root, recipe.replacements, used, spell=spell, adapted=adapted_kinds(by_name), dtype=dtype
        ),
    )


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
    prepared = prepare(recipe, inputs, device=device, every_entry=every_entry)
    return prepared.composition(prepared.modules(workers=workers, groups=groups, progress=progress))


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
