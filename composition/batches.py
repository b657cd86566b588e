"""All modules of a composition, computed in a pool of threads or in groups on a device; the engine says what one is."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeGuard, TypeVar

import torch

from composition.low_rank import LowRank, Truncation
from composition.methods.truncate import truncated_together
from composition.schedule import Groupable, Groups, in_groups, in_pool
from composition.staging import Staged, Staging
from composition.terms import Form
from composition.tree import truncates
from registry.domain.recipe import Call, Node

Made = TypeVar("Made", covariant=True)


class Module(Protocol[Made]):
    """One module of a composition.

    `factors`: what of its inputs can be copied to a device as it is, by content digest; `staged` takes it there.
    `cost`: bytes that it takes on a device at most. `shape`: equal for modules that can share a group.
    """

    @property
    def key(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def factors(self) -> Mapping[str, LowRank]: ...
    @property
    def cost(self) -> int: ...
    @property
    def shape(self) -> Hashable: ...
    @property
    def staged(self) -> dict[str, LowRank]: ...
    @property
    def results(self) -> dict[str, Truncation]: ...

    def alone(self, root: Node, *, form: Form, dtype: torch.dtype) -> Made:
        """The module's part of the result, computed by itself on a CPU."""

    def exact(self, root: Node) -> LowRank:
        """The result before any truncation."""

    def compose(
        self, root: Node, exact: LowRank, *, form: Form, dtype: torch.dtype, cut: Truncation | None = None
    ) -> Made:
        """The module's part of the result. `cut`: its truncation, if that was computed along with others'."""


def is_truncation(root: Node) -> TypeGuard[Call]:
    """Whether it truncates what is exact."""
    return isinstance(root, Call) and root.method == "truncate" and not truncates(root.children[0])


@dataclass(frozen=True, slots=True, eq=False)
class Task(Generic[Made]):
    """What is asked of every module."""

    root: Node
    forms: Mapping[str, Form]
    dtype: torch.dtype

    def run(self, modules: Sequence[Module[Made]], groups: Groups | None, workers: int) -> Iterator[Made]:
        """Each module's part of the result, in no particular order."""
        if groups is None or not modules:
            yield from in_pool(self.alone, modules, workers)
            return
        ordered, staging = sorted(modules, key=lambda module: repr(module.shape)), Staging(modules[0].device)
        task = Groupable(
            device=modules[0].device,
            bring=lambda group: staging.bring([delta for module in group for delta in module.factors.values()]),
            work=self.together,
            cost=lambda module: module.cost,
            shape=lambda module: module.shape,
            name=lambda module: f"module {module.name}",
        )
        for made in in_groups(task, ordered, groups):
            yield from made

    def alone(self, module: Module[Made]) -> Made:
        return module.alone(self.root, form=self.forms[module.key], dtype=self.dtype)

    def together(self, modules: Sequence[Module[Made]], staged: Staged) -> list[Made]:
        """A group whose factors are on the device; its truncations are computed at once."""
        deltas = iter(staged.wait())
        try:
            for module in modules:
                module.staged.update({digest: next(deltas) for digest in module.factors})
            exact = [module.exact(self.root) for module in modules]
            return [
                module.compose(self.root, whole, form=self.forms[module.key], dtype=self.dtype, cut=cut)
                for module, whole, cut in zip(modules, exact, self._cuts(exact), strict=True)
            ]
        finally:
            for module in modules:
                module.staged.clear()
                module.results.clear()

    def _cuts(self, exact: Sequence[LowRank]) -> Sequence[Truncation | None]:
        return truncated_together(exact, self.root.params) if is_truncation(self.root) else [None] * len(exact)
