"""The tree of a recipe: adapters, methods over them, and the one form of everything that says the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from registry.domain.digest import json_digest
from registry.domain.errors import InvalidRecipe
from registry.domain.method import Value
from registry.domain.methods import METHODS
from registry.domain.reference import Reference


@dataclass(frozen=True, slots=True)
class Leaf:
    """An adapter. `digest` is its content digest once pinned; `reference` then names the exact version."""

    reference: Reference
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A method applied to children. `params` holds every parameter, defaults included; a sum's are its `weights`."""

    method: str
    params: Mapping[str, Value]
    children: tuple["Node", ...]

    @property
    def weights(self) -> tuple[float, ...]:
        """A sum's factors, one per child; only for `linear`."""
        weights = self.params["weights"]
        assert isinstance(weights, tuple)
        return weights


Node = Leaf | Call


def linear(weights: tuple[float, ...], children: tuple[Node, ...]) -> Node:
    """A weighted sum; one child at weight 1 is that child."""
    if weights == (1.0,):
        return children[0]
    return Call("linear", {"weights": weights}, children)


def leaves(node: Node) -> Iterator[Leaf]:
    """Every leaf, in the order of the expression."""
    if isinstance(node, Leaf):
        yield node
    else:
        for child in node.children:
            yield from leaves(child)


def node_document(node: Node) -> dict[str, Any]:
    """A node as a JSON value; a pinned leaf is its content digest and nothing else."""
    if isinstance(node, Leaf):
        return {"adapter": str(node.reference)} if node.digest is None else {"digest": node.digest}
    return {
        "method": node.method,
        "revision": METHODS[node.method].revision,
        "params": {name: list(value) if isinstance(value, tuple) else value for name, value in node.params.items()},
        "inputs": [node_document(child) for child in node.children],
    }


def canonical(node: Node) -> Node:
    """The one form of everything that is equal to a node as a sum of terms. Idempotent.

    A sum whose terms all cancel is a `linear` node without children. Raises InvalidRecipe when a weight overflows.
    """
    terms: dict[str, _Term] = {}
    _collect(node, Fraction(1), terms)
    kept = [(weight, terms[key].node) for key in sorted(terms) if (weight := _rounded(terms[key].weight))]
    return linear(tuple(weight for weight, _ in kept), tuple(child for _, child in kept))


@dataclass(slots=True)
class _Term:
    node: Node
    weight: Fraction


def _collect(node: Node, weight: Fraction, terms: dict[str, _Term]) -> None:
    if isinstance(node, Call) and node.method in ("linear", "lerp"):
        for factor, child in zip(_factors(node), node.children, strict=True):
            _collect(child, weight * factor, terms)
        return
    if isinstance(node, Call):
        node = replace(node, children=_canonical_inputs(node))
        if all(is_zero(child) for child in node.children):
            return
    term = terms.setdefault(json_digest(node_document(node)), _Term(node, Fraction(0)))
    term.weight += weight


def _canonical_inputs(node: Call) -> tuple[Node, ...]:
    """A function's inputs in their one form, sorted by digest if their order means nothing."""
    children = [canonical(child) for child in node.children]
    if len(children) > 1 and any(map(is_zero, children)):
        raise InvalidRecipe("root", f"an input of {node.method} cancels to nothing; leave it out")
    if METHODS[node.method].commutative:
        children.sort(key=lambda child: json_digest(node_document(child)))
    return tuple(children)


def _factors(node: Call) -> tuple[Fraction, ...]:
    if node.method == "lerp":
        t = _exact(node.params["t"])
        return (1 - t, t)
    return tuple(_exact(weight) for weight in node.weights)


def _exact(number: Value) -> Fraction:
    return Fraction(repr(number))  # the decimal that it prints as, so that 0.1 + 0.2 - 0.3 is nothing


def _rounded(weight: Fraction) -> float:
    try:
        return float(weight)
    except OverflowError:
        raise InvalidRecipe("root", "the product of nested weights is not finite") from None


def is_zero(node: Node) -> bool:
    """Whether a canonical node is the sum of nothing."""
    return isinstance(node, Call) and not node.children
