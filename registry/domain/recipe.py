"""Recipes: what to compose, as a tree of methods over adapters; pinned, canonical, with one digest.

A recipe document is JSON:

    {"schema": 1, "dtype": "float32", "root": NODE, "inputs": [{"adapter", "version", "digest"}, …]}
    NODE = {"method": "linear", "revision": 1, "params": {"weights": [0.7, 0.3]}, "inputs": [NODE, …]}
         | {"adapter": "team/name@production"}       an adapter by reference
         | {"digest": "<64 hex>"}                    a pinned adapter; the document's `inputs` say where to find it

By hand, `schema`, `dtype`, `revision`, the document's `inputs` and parameters with a default may be left out. Pinning
replaces references by content digests and brings the tree into its canonical form: nested sums are flattened, equal
terms added up, zero terms dropped, `lerp` written as the sum that it is, and the terms of a sum sorted by digest, like
the inputs of a function whose order means nothing. So two expressions that say the same give one digest. Weights are
taken as the decimals they print as and combined exactly: 0.1*A + 0.2*A - 0.3*A is nothing, in any order.

A document may also say what becomes of replaced modules (`registry.domain.replacements`), and the fingerprint of the
base where the result depends on its weights.

The digest covers the tree, the content digests, the methods' revisions, the dtype and these two. It covers neither the
adapters' names and versions (kept in `inputs`, for the lineage) nor the device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from registry.domain.digest import json_digest
from registry.domain.errors import InvalidRecipe, UnsupportedAdapter, WrongUsage
from registry.domain.methods import METHODS, validate
from registry.domain.recipe_tree import Call, Leaf, Node, canonical, is_zero, leaves, linear, node_document
from registry.domain.records import Parent
from registry.domain.reference import Reference, Selector
from registry.domain.replacements import KEY, Replacements

__all__ = ("Call", "Leaf", "Node", "Recipe", "canonical", "leaves", "linear", "node_document")

SCHEMA = 1
DTYPES = ("float32", "bfloat16", "float16")
NOTHING_LEFT = ("the result", "rank 0", "every term cancels, and there is no adapter of rank 0 to store")
MAX_LEAVES = 256
MAX_NESTING = 64  # parentheses and functions of an expression
MAX_DEPTH = 2 * MAX_NESTING + 4  # nodes: a nesting is at most a function and a sum; then the leaf, and `with_rank`


@dataclass(frozen=True, slots=True)
class Recipe:
    """A tree and the dtype that its result is stored in. `inputs` are the pinned adapters, empty before `pin`.

    `replacements` says what becomes of modules that inputs replace. `base` is the fingerprint of the base where the
    result is a function of its weights too. Neither is in a document or a digest where it is None.
    """

    root: Node
    dtype: str = "float32"
    inputs: tuple[Parent, ...] = ()
    replacements: Replacements | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InvalidRecipe("dtype", f"{self.dtype[:40]!r} is not one of {', '.join(DTYPES)}")

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read a recipe document, hand-written or our own. Raises InvalidRecipe with the place.

        What is pinned in it stays pinned: `pin` then checks that the versions still have that content.
        """
        fields = _mapping(document, "document", {"schema", "dtype", "root", "inputs", KEY, "base"})
        if fields.get("schema", SCHEMA) != SCHEMA:
            raise InvalidRecipe("schema", f"this program reads schema {SCHEMA}, not {fields['schema']!r}")
        inputs = tuple(_read_input(item, f"inputs[{i}]") for i, item in enumerate(_items(fields, "inputs", "inputs")))
        reader = _Reader(inputs)
        root = reader.node(fields.get("root"), "root", 1)
        base = _digest(fields["base"], "base") if "base" in fields else None
        choice = reader.replacements(fields[KEY]) if KEY in fields else None
        return cls(root, _text(fields.get("dtype", "float32"), "dtype"), inputs, choice, base)

    @property
    def is_pinned(self) -> bool:
        return all(leaf.digest is not None for leaf in (*leaves(self.root), *self._sources))

    @property
    def _sources(self) -> tuple[Leaf, ...]:
        return (self.replacements.source,) if self.replacements and self.replacements.source else ()

    @property
    def is_zero(self) -> bool:
        """Whether every term cancels, so that nothing is left to store."""
        return is_zero(canonical(self.root))

    def check_not_zero(self) -> None:
        """Refuse a recipe of which nothing would be left to store. Raises UnsupportedAdapter."""
        if self.is_zero:
            raise UnsupportedAdapter(*NOTHING_LEFT)

    def pin(self, resolve: Callable[[Reference], Parent]) -> Self:
        """Replace every reference by the version that it means now, and bring the tree into its canonical form.

        `resolve` is called once per different reference, in the order of the expression; what a document claims as its
        inputs is resolved too, never believed. Raises InvalidRecipe when a leaf that was pinned before has other
        content now.
        """
        found: dict[Reference, Parent] = {}
        for leaf in (*leaves(self.root), *map(_leaf_of, self.inputs), *self._sources):
            if leaf.reference not in found:
                found[leaf.reference] = resolve(leaf.reference)
            _check_content(leaf, found[leaf.reference])
        inputs = sorted(set(found.values()), key=lambda parent: (parent.digest, parent.adapter, parent.version))
        named = {parent.digest: _leaf_of(parent) for parent in reversed(inputs)}  # the first of several names
        pinned = {reference: named[found[reference].digest] for reference in found}
        root = canonical(_pinned(self.root, pinned))
        kept = {leaf.digest for leaf in leaves(root)}
        choice = self.replacements
        for source in self._sources:
            if pinned[source.reference].digest not in kept:
                raise InvalidRecipe(KEY, f"{source.reference} is no input of this recipe, or cancels in it")
            choice = Replacements("from", pinned[source.reference])
        inputs = [parent for parent in inputs if parent.digest in kept]
        return replace(self, root=root, inputs=tuple(inputs), replacements=choice)

    def with_rank(self, rank: int) -> Self:
        """Truncate the whole to a rank (`--rank`). Raises WrongUsage if the recipe already ends in another rank."""
        if isinstance(self.root, Call) and self.root.method == "truncate":
            if self.root.params.get("rank", rank) != rank:
                raise WrongUsage(f"rank {rank} contradicts the recipe, which ends in rank {self.root.params['rank']}")
            params = validate("truncate", {**self.root.params, "rank": rank}, inputs=1)
            return replace(self, root=replace(self.root, params=params))
        params = validate("truncate", {"rank": rank}, inputs=1)
        return replace(self, root=Call("truncate", params, (self.root,)))

    def with_dtype(self, dtype: str) -> Self:
        """The same tree, stored in another dtype."""
        return replace(self, dtype=dtype)

    def with_replacements(self, choice: Replacements) -> Self:
        """The same tree with this choice. Raises WrongUsage if the recipe has made another one."""
        if self.replacements not in (None, choice):
            raise WrongUsage(f"{KEY} {choice} contradicts the recipe, which says {self.replacements}")
        return replace(self, replacements=choice)

    def with_base(self, fingerprint: str | None) -> Self:
        """The same recipe as a function of a base's weights, or of none's."""
        return replace(self, base=fingerprint)

    def document(self) -> dict[str, Any]:
        """The recipe as a JSON value with every default and the methods' revisions explicit."""
        inputs = [
            {"adapter": str(parent.adapter), "version": parent.version, "digest": parent.digest}
            for parent in self.inputs
        ]
        given: dict[str, Any] = {KEY: self.replacements.document()} if self.replacements else {}
        given |= {"base": self.base} if self.base else {}
        return {"schema": SCHEMA, "dtype": self.dtype, "root": node_document(self.root), "inputs": inputs, **given}

    @property
    def digest(self) -> str:
        """Identity of a pinned recipe: sha256 over its canonical document without `inputs`. Raises InvalidRecipe."""
        if not self.is_pinned:
            raise InvalidRecipe("root", "only a pinned recipe has a digest")
        document = replace(self, root=canonical(self.root), inputs=()).document()
        del document["inputs"]
        return json_digest(document)


def _pinned(node: Node, pinned: Mapping[Reference, Leaf]) -> Node:
    if isinstance(node, Call):
        return replace(node, children=tuple(_pinned(child, pinned) for child in node.children))
    return pinned[node.reference]


def _leaf_of(parent: Parent) -> Leaf:
    return Leaf(Reference(parent.adapter, Selector.VERSION, str(parent.version)), parent.digest)


def _check_content(leaf: Leaf, found: Parent) -> None:
    if leaf.digest not in (None, found.digest):
        reason = f"{leaf.reference} has content sha256:{found.digest}, the recipe was made with sha256:{leaf.digest}"
        raise InvalidRecipe("inputs", reason)


# -- reading documents ------------------------------------------------------------------------------------------------


class _Reader:
    """Reads nodes, counting leaves and depth, and finds pinned leaves among the document's inputs."""

    def __init__(self, inputs: tuple[Parent, ...]) -> None:
        self._inputs = {parent.digest: parent for parent in reversed(inputs)}
        self._leaves = 0

    def node(self, value: object, where: str, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise InvalidRecipe(where, f"nested deeper than {MAX_DEPTH} nodes")
        fields = _mapping(value, where, {"method", "revision", "params", "inputs", "adapter", "digest"})
        kinds = [key for key in ("method", "adapter", "digest") if key in fields]
        if len(kinds) != 1:
            raise InvalidRecipe(where, "a node has exactly one of 'method', 'adapter' and 'digest'")
        if kinds[0] == "method":
            return self._call(fields, where, depth)
        if len(fields) > 1:
            raise InvalidRecipe(where, f"nothing else belongs beside {kinds[0]!r}")
        return self._leaf(_text(fields[kinds[0]], f"{where}.{kinds[0]}"), kinds[0], where)

    def _call(self, fields: Mapping[str, object], where: str, depth: int) -> Node:
        items = _items(fields, "inputs", f"{where}.inputs")
        params = _mapping(fields.get("params", {}), f"{where}.params", None)
        name = _text(fields["method"], f"{where}.method")
        values = validate(name, params, inputs=len(items), where=where)
        revision = METHODS[name].revision
        if fields.get("revision", revision) != revision:
            reason = f"this program has revision {revision} of {name}, not {fields['revision']!r}"
            raise InvalidRecipe(f"{where}.revision", reason)
        children = tuple(self.node(item, f"{where}.inputs[{i}]", depth + 1) for i, item in enumerate(items))
        node = Call(name, values, children)
        return linear(node.weights, children) if name == "linear" else node

    def replacements(self, value: object) -> Replacements:
        if isinstance(value, str) and "=" not in value:
            return Replacements.parse(value)
        fields = _mapping(value, KEY, {"from"})
        source = self.node(fields.get("from"), f"{KEY}.from", 1)
        if not isinstance(source, Leaf):
            raise InvalidRecipe(f"{KEY}.from", "an adapter belongs here")
        return Replacements("from", source)

    def _leaf(self, text: str, kind: str, where: str) -> Leaf:
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            raise InvalidRecipe(where, f"more than {MAX_LEAVES} adapters")
        if kind == "adapter":
            return Leaf(Reference.parse(text))
        if text not in self._inputs:
            raise InvalidRecipe(f"{where}.digest", "no entry of the document's inputs has this digest")
        return _leaf_of(self._inputs[text])


def _read_input(value: object, where: str) -> Parent:
    fields = _mapping(value, where, {"adapter", "version", "digest"})
    version = fields.get("version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise InvalidRecipe(f"{where}.version", "a version is a number from 1 on")
    digest = _digest(fields.get("digest"), f"{where}.digest")
    name = Reference.parse(_text(fields.get("adapter"), f"{where}.adapter"))
    if name.selector is not Selector.MAIN:
        raise InvalidRecipe(f"{where}.adapter", "write team/name; the version stands beside it")
    return Parent(name.adapter, version, digest)


def _digest(value: object, where: str) -> str:
    digest = _text(value, where)
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InvalidRecipe(where, "a digest is 64 lowercase hex digits")
    return digest


def _mapping(value: object, where: str, allowed: set[str] | None) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InvalidRecipe(where, "a JSON object belongs here")
    unknown = sorted(str(key)[:40] for key in value if allowed is not None and key not in allowed)
    if unknown:
        raise InvalidRecipe(where, f"{unknown[0]!r} is not known here")
    return value


def _items(fields: Mapping[str, object], key: str, where: str) -> list[object]:
    items = fields.get(key, [])
    if not isinstance(items, list):
        raise InvalidRecipe(where, "a list belongs here")
    return items


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidRecipe(where, "a text belongs here")
    return value
