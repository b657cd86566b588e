"""Questions to the tree of a canonical recipe, which knows no tensors."""

from collections.abc import Iterator, Mapping

from composition.methods import METHODS
from registry.domain.digest import json_digest
from registry.domain.recipe import Call, Leaf, Node, node_document

GIVEN_INIT = "given_init"


def weights_of(node: Call) -> tuple[float, ...]:
    """The factors of a sum's terms; a `given_init` is the first less the second. 1 for every other node."""
    if node.method == GIVEN_INIT:
        return (1.0, -1.0)
    return node.weights if node.method == "linear" else (1.0,) * len(node.children)


def truncates(node: Node) -> bool:
    """Whether a truncation stands outside of all methods; what methods take is theirs."""
    if isinstance(node, Leaf) or node.method in METHODS:
        return False
    return node.method == "truncate" or any(map(truncates, node.children))


def weighted(node: Node) -> tuple[float, Node]:
    """An input of a method as its weight and the rest: methods may vote without weights, and mask without them."""
    if isinstance(node, Call) and node.method == "linear" and len(node.children) == 1:
        return node.weights[0], node.children[0]
    return 1.0, node


def outermost(node: Node, weight: float = 1.0) -> Iterator[tuple[float, str]]:
    """The methods that no other method stands around, by digest, with the factors in front of them."""
    if isinstance(node, Leaf):
        return
    if node.method in METHODS:
        yield weight, node_digest(node)
        return
    for factor, child in zip(weights_of(node), node.children, strict=True):
        yield from outermost(child, weight * factor)


def coefficients(root: Node) -> dict[str, float | str]:
    """The weight of each pinned adapter in the whole {content digest: factor}, through sums and truncations.

    Where a method stands around an adapter there is none, and the method's name stands there.
    """
    found: dict[str, float | str] = {}
    for digest, factor in _factors(root, 1.0):
        before = found.setdefault(digest, 0.0)
        found[digest] = factor if isinstance(factor, str) else before if isinstance(before, str) else before + factor
    return found


def _factors(node: Node, factor: float | str) -> Iterator[tuple[str, float | str]]:
    if isinstance(node, Leaf):
        yield node.digest or "", factor
        return
    inside = node.method if node.method in METHODS and isinstance(factor, float) else factor
    for weight, child in zip(weights_of(node), node.children, strict=True):
        yield from _factors(child, inside if isinstance(inside, str) else inside * weight)


def largest_rank(node: Node, ranks: Mapping[str, int], full: int) -> int:
    """The rank that a module can have at most, its inputs having `ranks` {content digest: rank}; `full`: of its matrix.

    It is the rank, where none is lost to cancelling and no rule looks at singular values. Methods give no more than the
    sum of their inputs' ranks, or what they are asked for.
    """
    if isinstance(node, Leaf):
        return ranks.get(node.digest or "", 0)
    total = sum(largest_rank(child, ranks, full) for child in node.children)
    asked = node.params.get("rank")
    if not isinstance(asked, int):
        return total
    return min(asked, full) if node.method in METHODS else min(asked, total)


def node_digest(node: Node) -> str:
    """The identity of a node: of everything below it, revisions included."""
    return json_digest(node_document(node))
