"""One module of a composition: a recipe's tree evaluated over what its inputs have of it.

Sums stay concatenations of ranks, a truncation is computed through the small core, every other method gives one
low-rank delta, and what is stored is rounded once.
"""

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from math import prod

import torch
from torch import Tensor

from composition.adapter import LoadedAdapter, LoadedModule
from composition.agreement import bias_of
from composition.batches import is_truncation
from composition.low_rank import LowRank, Truncation, balanced, distance, is_finite
from composition.methods import METHODS
from composition.methods.method import Input
from composition.methods.truncate import truncated, truncated_sum
from composition.parents import Parents
from composition.report import ModuleReport, together
from composition.staging import size_of
from composition.sums import StoredSum, fits
from composition.terms import LINEAR, Form
from composition.tree import largest_rank, node_digest, outermost, truncates, weighted, weights_of
from composition.whole import add, norm
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.recipe import Call, Leaf, Node

_COPIES = 12  # of a module's factors, in float32, that computing it takes at most


@dataclass(frozen=True, slots=True, eq=False)
class ComposedModule:
    """A module of the result, or an expert of one; what it has is of the recipe's dtype and scaling 1, on the CPU.

    An expert may have rank 0, since a stack holds all of them.
    """

    name: str
    delta: LowRank
    form: Form = LINEAR
    bias: Tensor | None = None

    def without_numbers(self) -> "ComposedModule":
        """The same with shapes only."""
        return replace(self, delta=self.delta.to(torch.device("meta")))


Made = tuple[ComposedModule, ModuleReport]


@dataclass(frozen=True, slots=True, eq=False)
class Module:
    """One module of the result, evaluated over the inputs that have it. None stands for no delta at all.

    `results` keeps what methods gave, by their nodes' digests: a truncation around them asks twice. `staged` are
    inputs' deltas that are on the device already, by content digest.
    """

    key: str
    name: str
    inputs: Mapping[str, LoadedAdapter]
    parents: Parents
    device: torch.device
    results: dict[str, Truncation] = field(default_factory=dict)
    staged: dict[str, LowRank] = field(default_factory=dict)

    @property
    def found(self) -> dict[str, LoadedModule]:
        """This module of the inputs that have it {content digest: module}."""
        return {
            digest: adapter.by_key[self.key] for digest, adapter in self.inputs.items() if self.key in adapter.by_key
        }

    @property
    def factors(self) -> dict[str, LowRank]:
        """What of it can be copied to a device as it is {content digest: delta}."""
        return {digest: module.delta for digest, module in self.found.items() if not module.decomposed}

    @property
    def is_dense(self) -> bool:
        return any(module.decomposed for module in self.found.values())

    @property
    def has_bias(self) -> bool:
        return any(module.bias is not None for module in self.found.values())

    @property
    def shape(self) -> Hashable:
        """Equal for modules whose inputs have equal shapes."""
        return tuple((digest, module.delta.shape, module.delta.rank) for digest, module in self.found.items())

    @property
    def cost(self) -> int:
        """Bytes that it may take on a device: factors, their sum, that in float64, and what comes of it."""
        dense = sum(prod(module.delta.shape) for module in self.found.values() if module.decomposed)
        return _COPIES * (size_of(list(self.factors.values())) + 4 * dense)

    def outline(self, root: Node, *, form: Form, dtype: torch.dtype) -> ComposedModule:
        """The module's part of the result at its largest rank, without numbers."""
        out, inside = next(iter(self.found.values())).delta.shape
        ranks = {
            digest: min(out, inside) if module.decomposed else module.delta.rank
            for digest, module in self.found.items()
        }
        rank = largest_rank(root, ranks, min(out, inside))
        a, b = (torch.empty(size, dtype=dtype, device="meta") for size in ((rank, inside), (out, rank)))
        return ComposedModule(self.name, LowRank(a, b), form)

    def alone(self, root: Node, *, form: Form, dtype: torch.dtype) -> Made:
        """The module's part of the result, computed by itself on a CPU."""
        total = self._sum(root)
        if total is None:
            return self.compose(root, self.exact(root), form=form, dtype=dtype)
        cut = truncated_sum(total, root.params) if is_truncation(root) else None
        if cut is None or cut.delta.rank == total.rank:
            delta, rounding = total.stored(dtype)
            delta = self._in_range(delta, _name(dtype))
        else:
            delta, rounding = self._rounded(cut.delta, dtype, is_balanced=True)
        norm, error, values = (cut.norm, cut.error, cut.values) if cut else (total.norm(), 0.0, None)
        spectrum = total.spectrum() if values is None else values
        measured = self.parents.measure_sum(self._parts(), total.plain, spectrum)
        report = ModuleReport(self.name, total.rank, delta.rank, norm, error, rounding, measured=measured)
        return ComposedModule(self.name, delta, form, self._bias(root, dtype)), report

    def _sum(self, root: Node) -> StoredSum | None:
        """The recipe's sum, truncated or not, if it is one of stored deltas and nothing else."""
        if not self.parents.is_sum or self.device.type != "cpu" or self.is_dense:
            return None
        terms = [delta.scaled(self.parents.weights[digest]) for digest, delta in self._parts().items()]
        self._check_shapes(terms)
        return StoredSum.of(terms) if fits(terms) else None

    def _parts(self) -> dict[str, LowRank]:
        """What parents have of the module, as it is stored, in their order."""
        found = self.found
        return {digest: found[digest].delta for digest in self.parents.weights if digest in found}

    def exact(self, root: Node) -> LowRank:
        """The result before any truncation."""
        exact = self._evaluate(root, truncating=False)
        if exact is None:
            raise AssertionError(f"no input of the canonical recipe has the module {self.name}")
        return exact

    def compose(
        self, root: Node, exact: LowRank, *, form: Form, dtype: torch.dtype, cut: Truncation | None = None
    ) -> Made:
        """The module's part of the result. `cut`: its truncation, if that was computed along with others'."""
        delta, norm, error = self._truncated(root, exact, cut)
        is_balanced = is_truncation(root) and delta.rank < exact.rank
        rounded, rounding = self._rounded(delta.folded(), dtype, is_balanced=is_balanced)
        merged, lost = self._fitted(root)
        deltas = {digest: module.true_delta.to(self.device) for digest, module in self.found.items()}
        measured = self.parents.measure(deltas, exact)
        report = ModuleReport(
            self.name, exact.rank, rounded.rank, norm, error, rounding, merged, lost, measured=measured
        )
        return ComposedModule(self.name, rounded.to(torch.device("cpu")), form, self._bias(root, dtype)), report

    def _bias(self, root: Node, dtype: torch.dtype) -> Tensor | None:
        """The module's bias as it is stored, or None for one that is zero."""
        bias = bias_of(root, self.found)
        if bias is None or not bias.any():
            return None
        if not is_finite(bias.to(dtype)):
            raise InvalidAdapter(f"module {self.name}", f"its bias overflows {dtype}; choose smaller weights")
        return bias.to(dtype)

    def _truncated(self, root: Node, exact: LowRank, cut: Truncation | None) -> tuple[LowRank, float, float]:
        """The result, the norm before any truncation, and the norm of what truncations took away."""
        if not truncates(root):
            return exact, norm(exact), 0.0
        if is_truncation(root):
            result = cut or truncated(exact, root.params)
            return result.delta, result.norm, result.error
        delta = self._evaluate(root, truncating=True)
        assert delta is not None
        return delta, norm(exact), norm(add((exact, -delta)))

    def _fitted(self, root: Node) -> tuple[float, float]:
        """Norms of what the outermost methods made, and of what bringing that to a rank took away, together."""
        found = [(weight, self.results[key]) for weight, key in outermost(root) if key in self.results]
        lossy = [(weight, result) for weight, result in found if result.error]
        return (
            together(weight * result.norm for weight, result in lossy),
            together(weight * result.error for weight, result in lossy),
        )

    def _evaluate(self, node: Node, *, truncating: bool) -> LowRank | None:
        if isinstance(node, Leaf):
            if node.digest in self.staged:
                return self.staged[node.digest]
            module = self.inputs[node.digest or ""].by_key.get(self.key)
            return module.true_delta.to(self.device) if module else None
        if node.method in METHODS:
            return self._merge(node)
        children = [self._evaluate(child, truncating=truncating) for child in node.children]
        if node.method == "truncate":
            return _kept(children[0], node) if truncating else children[0]
        terms = [
            child.scaled(weight) for weight, child in zip(weights_of(node), children, strict=True) if child is not None
        ]
        self._check_shapes(terms)
        return self._in_range(add(terms).folded(), "float32") if terms else None

    def _in_range(self, delta: LowRank, dtype: str) -> LowRank:
        if not (is_finite(delta.A) and is_finite(delta.B)):
            reason = f"its factors overflow {dtype}; choose smaller weights or another dtype"
            raise InvalidAdapter(f"module {self.name}", reason)
        return delta

    def _merge(self, node: Call) -> LowRank | None:
        """What a method makes of its inputs, once: those are taken as the expression says, truncated where it does."""
        key = node_digest(node)
        if key not in self.results:
            parts = [weighted(child) for child in node.children]
            deltas = [self._evaluate(child, truncating=True) for _, child in parts]
            present = [delta for delta in deltas if delta is not None]
            if not present:
                return None
            self._check_shapes(present)
            nothing = LowRank(present[0].A[:0], present[0].B[:, :0])
            inputs = [
                Input(weight, delta or nothing, self._stream(child))
                for (weight, child), delta in zip(parts, deltas, strict=True)
            ]
            self.results[key] = METHODS[node.method](inputs, node.params)
        return self.results[key].delta

    def _stream(self, node: Node) -> int:
        """Names this module of what an input came from, wherever in the expression it stands."""
        name = hashlib.sha256(f"{node_digest(node)} {self.name}".encode()).digest()
        return int.from_bytes(name[:8], "big", signed=True)

    def _check_shapes(self, terms: list[LowRank]) -> None:
        shapes = sorted({term.shape for term in terms})
        if len(shapes) > 1:
            reason = f"the inputs have deltas of the shapes {shapes[0]} and {shapes[1]}"
            raise UnsupportedAdapter("the inputs", f"the module {self.name}", reason)

    def _rounded(self, delta: LowRank, dtype: torch.dtype, *, is_balanced: bool) -> tuple[LowRank, float]:
        """The delta in the dtype that is stored, and the norm of what that changed."""
        if dtype == delta.A.dtype:
            return self._in_range(delta, "float32"), 0.0
        delta = delta if is_balanced else balanced(delta)
        rounded = self._in_range(LowRank(delta.A.to(dtype), delta.B.to(dtype)), _name(dtype))
        return rounded, distance(delta, rounded)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _kept(child: LowRank | None, node: Call) -> LowRank | None:
    return None if child is None else truncated(child, node.params).delta
