"""Adapters whose training began by changing the base: PiSSA, OLoRA, CorDA, LoRA-GA.

They start at factors B₀A₀ ≠ 0 and take those out of the base, W₀ = W - s·B₀A₀. What they add to the published W is

    s·B A - s·B₀A₀,  as factors [A; A₀] and [B, -B₀]

That is `given_init(A, A0)` in an expression, exact; A0 is the adapter as it was saved before the first step.
Source: Meng et al. 2024, arXiv 2404.02948, appendix C; peft 0.21.2, LoraModel.subtract_mutated_init.
"""

from collections.abc import Iterator, Mapping

from composition.adapter import BASE_WAS_CHANGED, MOVED, LoadedAdapter
from composition.tree import GIVEN_INIT
from registry.domain.errors import UnsupportedAdapter
from registry.domain.recipe import Call, Leaf, Node


def with_beginnings(root: Node) -> frozenset[str]:
    """The content digests of adapters that stand in a `given_init`."""
    return frozenset(leaf.digest or "" for pair in _pairs(root) for leaf in pair.children if isinstance(leaf, Leaf))


def _pairs(node: Node) -> Iterator[Call]:
    if isinstance(node, Leaf):
        return
    if node.method == GIVEN_INIT:
        yield node
    for child in node.children:
        yield from _pairs(child)


def check_beginnings(root: Node, adapters: Mapping[str, LoadedAdapter]) -> None:
    """Raises UnsupportedAdapter for such an adapter without the one that it began as, or with what can't be that."""
    if isinstance(root, Leaf):
        adapter = adapters[root.digest or ""]
        if variant := next(iter(sorted(MOVED & set(adapter.summary.variants))), None):
            raise UnsupportedAdapter(adapter.subject, variant, BASE_WAS_CHANGED)
    elif root.method == GIVEN_INIT:
        _check_pair(root, adapters)
    else:
        for child in root.children:
            check_beginnings(child, adapters)


def _check_pair(pair: Call, adapters: Mapping[str, LoadedAdapter]) -> None:
    if not all(isinstance(child, Leaf) for child in pair.children):
        raise UnsupportedAdapter("the recipe", GIVEN_INIT, "its inputs are two adapters, without weights or methods")
    trained, begun = (adapters[child.digest or ""] for child in pair.children if isinstance(child, Leaf))
    if not MOVED & set(trained.summary.variants):
        reason = f"{', '.join(sorted(MOVED))} are adapters that need it, and this one says of itself that it is none"
        raise UnsupportedAdapter(trained.subject, GIVEN_INIT, reason)
    if trained is begun:
        raise UnsupportedAdapter(trained.subject, GIVEN_INIT, "an adapter is not what it began as")
    if _outline(trained) != _outline(begun):
        reason = f"it has not the modules, ranks and scalings of {trained.subject}, which can't have begun so"
        raise UnsupportedAdapter(begun.subject, GIVEN_INIT, reason)


def _outline(adapter: LoadedAdapter) -> set[tuple[str, int, tuple[int, int], float]]:
    return {(m.name, m.delta.rank, m.delta.shape, m.delta.scaling) for m in adapter.modules}
