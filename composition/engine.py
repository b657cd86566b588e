"""The engine: a pinned recipe and its loaded inputs in, one adapter and a report out.

Module by module, on the CPU or a GPU by the same code. Sums stay concatenations of ranks, a truncation is computed
through the small core, and what is stored is rounded once. The same recipe and inputs give the same bits on the same
kind of device; set one intra-op thread per worker (see `low_rank`). It reads and writes no files.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from composition.adapter import LoadedAdapter
from composition.low_rank import LowRank, balanced, concatenate, difference, is_finite, truncate
from composition.report import ModuleReport, Report
from composition.spelling import spellings
from registry.domain.errors import InvalidAdapter, InvalidRecipe, InvalidSetting, UnsupportedAdapter
from registry.domain.recipe import Call, Leaf, Node, Recipe, canonical, leaves

Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much

_DTYPES: Mapping[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True, eq=False)
class ComposedModule:
    """A module of the result; its factors have the recipe's dtype and scaling 1, on the CPU."""

    name: str
    delta: LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Composition:
    """A composed adapter, modules sorted by name, with what its configuration inherits from the inputs."""

    modules: tuple[ComposedModule, ...]
    report: Report
    base_name: str | None
    base_revision: str | None
    task_type: str | None
    fan_in_fan_out: bool


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


def compose(
    recipe: Recipe,
    inputs: Mapping[str, LoadedAdapter],
    *,
    device: str = "auto",
    progress: Progress = silent,
) -> Composition:
    """Compute a pinned recipe over inputs {content digest: adapter}.

    Raises InvalidRecipe if it is not pinned, UnsupportedAdapter for inputs that don't go together and for a result that
    is zero, InvalidAdapter for numbers that don't fit the dtype.
    """
    if not recipe.is_pinned:
        raise InvalidRecipe("root", "only a pinned recipe can be composed")
    target = choose_device(device)
    root = canonical(recipe.root)
    used = {leaf.digest: inputs[leaf.digest] for leaf in leaves(root) if leaf.digest is not None}
    fan_in_fan_out = _agreed_layout(used.values())
    names = spellings(used.values())
    modules: list[ComposedModule] = []
    reports: list[ModuleReport] = []
    for done, (key, name) in enumerate(names.items()):
        progress("composing", done, len(names))
        delta, report = _Module(key, name, used, target).compose(root, _DTYPES[recipe.dtype])
        reports.append(report)
        if delta.rank:
            modules.append(ComposedModule(name, delta))
    progress("composing", len(names), len(names))
    if not modules:
        raise UnsupportedAdapter(
            "the result", "rank 0", "every term cancels, and there is no adapter of rank 0 to store"
        )
    summaries = [used[digest].summary for digest in sorted(used)]
    return Composition(
        modules=tuple(modules),
        report=Report(recipe.dtype, str(target), tuple(reports)),
        base_name=next((summary.base_name for summary in summaries if summary.base_name), None),
        base_revision=_common({summary.base_revision for summary in summaries}),
        task_type=_common({summary.task_type for summary in summaries}),
        fan_in_fan_out=fan_in_fan_out,
    )


def choose_device(name: str) -> torch.device:
    """The device that a setting means; `auto` is the GPU if there is one. Raises InvalidSetting."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InvalidSetting("device", name, "write auto, cpu, cuda or cuda:1") from None
    if device.type not in ("cpu", "cuda"):
        raise InvalidSetting("device", name, "write auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InvalidSetting("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices")
    return device


@dataclass(frozen=True, slots=True, eq=False)
class _Module:
    """One module of the result, evaluated over the inputs that have it. None stands for no delta at all."""

    key: str
    name: str
    inputs: Mapping[str, LoadedAdapter]
    device: torch.device

    def compose(self, root: Node, dtype: torch.dtype) -> tuple[LowRank, ModuleReport]:
        exact = self._evaluate(root, truncating=False)
        if exact is None:
            raise AssertionError(f"no input of the canonical recipe has the module {self.name}")
        delta, norm, error = self._truncated(root, exact)
        rounded, rounding = self._rounded(delta.folded(), dtype)
        report = ModuleReport(self.name, exact.rank, rounded.rank, norm, error, rounding)
        return rounded.to(torch.device("cpu")), report

    def _truncated(self, root: Node, exact: LowRank) -> tuple[LowRank, float, float]:
        """The result, the norm before any truncation, and the norm of what truncations took away."""
        if not _truncates(root):
            return exact, exact.norm(), 0.0
        if isinstance(root, Call) and root.method == "truncate" and not _truncates(root.children[0]):
            result = truncate(exact, _rank(root))
            return result.delta, result.norm, result.error
        delta = self._evaluate(root, truncating=True)
        assert delta is not None
        return delta, exact.norm(), (exact - delta).norm()

    def _evaluate(self, node: Node, *, truncating: bool) -> LowRank | None:
        if isinstance(node, Leaf):
            module = self.inputs[node.digest or ""].by_key.get(self.key)
            return module.delta.to(self.device) if module else None
        children = [self._evaluate(child, truncating=truncating) for child in node.children]
        if node.method == "truncate":
            return _kept(children[0], node) if truncating else children[0]
        weighted = zip(node.weights, children, strict=True)
        terms = [child.scaled(weight) for weight, child in weighted if child is not None]
        self._check_shapes(terms)
        return self._in_range(concatenate(terms).folded(), "float32") if terms else None

    def _in_range(self, delta: LowRank, dtype: str) -> LowRank:
        if not (is_finite(delta.A) and is_finite(delta.B)):
            reason = f"its factors overflow {dtype}; choose smaller weights or another dtype"
            raise InvalidAdapter(f"module {self.name}", reason)
        return delta

    def _check_shapes(self, terms: list[LowRank]) -> None:
        shapes = sorted({term.shape for term in terms})
        if len(shapes) > 1:
            reason = f"the inputs have deltas of the shapes {shapes[0]} and {shapes[1]}"
            raise UnsupportedAdapter("the inputs", f"the module {self.name}", reason)

    def _rounded(self, delta: LowRank, dtype: torch.dtype) -> tuple[LowRank, float]:
        """The delta in the dtype that is stored, and the norm of what that changed."""
        if dtype == delta.A.dtype:
            return self._in_range(delta, "float32"), 0.0
        delta = balanced(delta)
        rounded = self._in_range(LowRank(delta.A.to(dtype), delta.B.to(dtype)), str(dtype).removeprefix("torch."))
        return rounded, difference(delta, LowRank(rounded.A.float(), rounded.B.float())).norm()


def _kept(child: LowRank | None, node: Call) -> LowRank | None:
    return None if child is None else truncate(child, _rank(node)).delta


def _rank(node: Call) -> int:
    rank = node.params["rank"]
    assert isinstance(rank, int)
    return rank


def _truncates(node: Node) -> bool:
    return isinstance(node, Call) and (node.method == "truncate" or any(map(_truncates, node.children)))


def _common(values: set[str | None]) -> str | None:
    return values.pop() if len(values) == 1 else None


def _agreed_layout(adapters: Collection[LoadedAdapter]) -> bool:
    transposed = sorted(adapter.subject for adapter in adapters if adapter.fan_in_fan_out)
    if transposed and len(transposed) < len(adapters):
        reason = "it is set in this input and not in all others"
        raise UnsupportedAdapter(transposed[0], "fan_in_fan_out", reason)
    return bool(transposed)
