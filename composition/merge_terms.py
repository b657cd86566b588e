"""What a recipe adds to the tensors of a base: the engine's composition, and DoRA, which the base's rows decide.

A recipe is composed first, to products of two factors and to biases. An adapter with DoRA that is a term of its sum
is merged exactly instead, row by row: its delta has full rank, and here it need not be stored. An adapter that is all
of a recipe is merged as it is: nothing has to be composed.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from composition.adapter import LoadedAdapter, LoadedModule, Scale
from composition.agreement import agreed_forms
from composition.beginnings import check_beginnings
from composition.changes import Change, Contribution, Product, Rescaled, changes_of
from composition.engine import Progress, compose
from composition.low_rank import is_finite
from composition.placement import (
    HEADS,
    Place,
    by_label,
    delta_spec,
    offset,
    place_modules,
    product,
    replacement,
    scaling,
)
from composition.replaced import compose_replacements
from composition.shards import OpenFiles, headers_index, label, row_blocks, row_count, row_width
from composition.spelling import speller, spellings
from composition.terms import Form, adapted_kinds, stack_of
from registry.domain.bases import TRANSPOSED
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.recipe import Call, Leaf, Node, Recipe, canonical, leaves, linear
from registry.domain.replacements import Replacements
from registry.formats.base_files import StoredBase, StoredTensor
from registry.formats.json_document import parse_object

# Architectures with a head that is the embeddings' matrix if the checkpoint has none of its own.
_WITH_HEAD = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")
_EMBEDDINGS = frozenset({"embed_tokens", "wte", "embed_in", "word_embeddings", "shared"})

Placed = Mapping[str, list[Place]]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Changes by tensor, the tensor of each module, and what the inputs' configurations call the base."""

    changes: Mapping[str, Change]
    modules: Mapping[str, str]
    base_name: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """The base that is merged into: where it is, and what its headers say."""

    folder: Path
    stored: StoredBase

    @property
    def name(self) -> str:
        return str(self.folder)


def merge_terms(
    recipe: Recipe, inputs: Mapping[str, LoadedAdapter], target: Target, *, device: str, progress: Progress
) -> Terms:
    """What a pinned recipe over inputs {content digest: adapter} changes in a base.

    Raises what `compose` and `place_modules` raise, and UnsupportedAdapter for a bias that the base lacks and for
    embeddings that are its head too.
    """
    root = canonical(recipe.root)
    check_beginnings(root, inputs)
    used = {leaf.digest: inputs[leaf.digest] for leaf in leaves(root) if leaf.digest is not None}
    whole, rest = _divided(root, inputs)
    contributions = list(_replacements(root, recipe.replacements, used, target))
    names = {adapter.summary.base_name for _, adapter in whole}
    if rest is not None:
        composition = compose(replace(recipe, root=rest, replacements=None), inputs, device=device, progress=progress)
        names = {composition.base_name}
        modules = [
            LoadedModule(each.name, None, each.delta, each.form, each.bias)
            for each in composition.modules
            if each.delta.rank or each.bias is not None
        ]
        if modules:
            contributions += _contributions(modules, target, 1.0, transposed=composition.fan_in_fan_out)
        contributions += _scales(composition.scales, target, transposed=composition.fan_in_fan_out)
    for weight, adapter in whole:
        contributions += _contributions(adapter.modules, target, weight, transposed=adapter.fan_in_fan_out)
    tensors = {each.module: each.label for each in reversed(contributions)}  # a module's weight before its bias
    known = sorted(name for name in names if name)
    return Terms(changes_of(contributions), dict(sorted(tensors.items())), known[0] if known else None)


def _replacements(
    root: Node, choice: Replacements | None, adapters: Mapping[str, LoadedAdapter], target: Target
) -> Iterator[Contribution]:
    """The tensors that the inputs replace, by the recipe's choice, in the place of the base's."""
    if choice is None:
        return
    names = spellings(adapters.values())
    forms = agreed_forms(adapters.values(), names)
    adapted = adapted_kinds({name: forms[key] for key, name in names.items()})
    spell = speller(adapters.values())
    stored = by_label(target.stored)
    for item in compose_replacements(root, choice, adapters, spell=spell, adapted=adapted, dtype=torch.float32):
        contribution = replacement(item, stored, name=target.name)
        if item.module.rpartition(".")[2] in _EMBEDDINGS | HEADS:
            _refuse_tied(item.module, stored[contribution.label][0], target)
        yield contribution


def _divided(root: Node, inputs: Mapping[str, LoadedAdapter]) -> tuple[list[tuple[float, LoadedAdapter]], Node | None]:
    """The terms of a sum that are adapters with DoRA, or the only term if it is an adapter, and the rest of the sum."""
    exact: list[tuple[float, LoadedAdapter]] = []
    rest: list[tuple[float, Node]] = []
    summands = list(_summands(root))
    for weight, child in summands:
        adapter = inputs[child.digest or ""] if isinstance(child, Leaf) else None
        is_dora = adapter is not None and any(module.decomposed for module in adapter.modules)
        if adapter and not adapter.scales and (len(summands) == 1 or is_dora):
            exact.append((weight, adapter))
        else:
            rest.append((weight, child))
    if exact and not rest:
        return exact, None
    return exact, linear(tuple(weight for weight, _ in rest), tuple(child for _, child in rest))


def _summands(root: Node) -> Iterable[tuple[float, Node]]:
    if isinstance(root, Call) and root.method == "linear":
        return zip(root.weights, root.children, strict=True)
    return [(1.0, root)]


def _scales(scales: Iterable[Scale], target: Target, *, transposed: bool) -> Iterator[Contribution]:
    turned = transposed or headers_index(target.stored).model_type in TRANSPOSED
    stored = by_label(target.stored)
    for scale in scales:
        yield from scaling(scale, stored, transposed=turned, name=target.name)


def _contributions(
    modules: Iterable[LoadedModule], target: Target, weight: float, *, transposed: bool
) -> Iterator[Contribution]:
    modules = list(modules)
    places, stored = _places(modules, target, transposed=transposed), by_label(target.stored)
    with OpenFiles.of([place.tensor.file for found in places.values() for place in found]) as files:
        for module in modules:
            place = places[_placed_name(module.name, module.form)][0]
            if module.decomposed is not None:
                yield place.contribution(_rescaled(module, place, files, weight=weight))
            else:
                yield from product(place, module.true_delta.scaled(weight), module.form)
            if module.bias is not None:
                yield offset(place, weight * module.bias.double(), stored, name=target.name)


def _places(modules: Iterable[LoadedModule], target: Target, *, transposed: bool) -> Placed:
    specs = {
        _placed_name(each.name, each.form): delta_spec(each.name, each.form, each.delta.shape, transposed=transposed)
        for each in modules
    }
    places = place_modules(specs.values(), target.stored, headers_index(target.stored), name=target.name)
    for name, spec in specs.items():
        if spec.kind == "embedding" and name.rpartition(".")[2] in _EMBEDDINGS:
            _refuse_tied(name, places[name][0].tensor, target)
    return places


def _placed_name(name: str, form: Form) -> str:
    return stack_of(name) if form.kind == "parameter" else name


def _refuse_tied(module: str, tensor: StoredTensor, target: Target) -> None:
    """Raises UnsupportedAdapter where the head is the embeddings' matrix, and only one of them was trained."""
    path = tensor.file.parent / "config.json"
    config = parse_object(path.read_bytes(), path=str(path)) if path.is_file() else {}
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    own = any(HEADS.intersection(tensor.name.split(".")[-2:-1]) for tensor in target.stored.tensors)
    if any(name.endswith(_WITH_HEAD) for name in names) and (not own or config.get("tie_word_embeddings") is True):
        reason = f"{names[0]} ties its head and its embeddings, and both would change with {module}"
        raise UnsupportedAdapter(target.name, f"the tensor {label(tensor)}", reason)


def _rescaled(module: LoadedModule, place: Place, files: OpenFiles, *, weight: float) -> Rescaled:
    """DoRA of a module: its factors m / |W + D|, of the whole tensor. Raises InvalidAdapter where a row is zero."""
    assert module.decomposed is not None
    direction = Product(module.delta.widened(), place.transposed)
    squares = _squares(place, direction, files, by_column=place.transposed != module.decomposed.inward)
    factors = module.decomposed.factors(squares)
    if not is_finite(factors):
        raise InvalidAdapter(f"module {module.name}", "a row of the base's weight and its direction cancel")
    return Rescaled(direction, factors.T if place.transposed else factors, weight)


def _squares(place: Place, direction: Product, files: OpenFiles, *, by_column: bool) -> Tensor:
    """|W + D|² of each row of a tensor, or of each column, over blocks of rows in their order."""
    tensor = place.tensor
    rows, width = row_count(tensor), row_width(tensor)
    addend = direction.prepared(torch.float64)
    total = torch.zeros(width if by_column else rows, dtype=torch.float64)
    for start, stop in row_blocks(rows, width):
        stored = files.rows(tensor, start, stop)
        moved = stored.double()
        addend.add(moved, stored, slice(start, stop))
        if by_column:
            total += moved.square_().sum(0)
        else:
            total[start:stop] = moved.square_().sum(1)
    return total
