"""Tensors that adapters put in the place of the base's: modules saved whole (modules_to_save), and trained biases.

They have no sum. What becomes of them is a choice in the recipe (`registry.domain.replacements`), by these laws, c_i
being the weight that an input has in the whole expression:

    average      Σ c_i W'_i / Σ c_i, over the inputs that replace the tensor
    difference   W + Σ c_i (W'_i - W), with the base's W; an input that doesn't replace it adds nothing
    from         one input's W'

Computed in float64, some rows at a time. Truncation leaves them whole; other methods are refused.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from composition.adapter import CHOOSE, LoadedAdapter, Replacement
from composition.base_weights import ROWS, BaseWeights
from composition.low_rank import is_finite
from composition.tree import coefficients
from registry.domain.errors import InvalidAdapter, InvalidRecipe, UnsupportedAdapter
from registry.domain.recipe import Node
from registry.domain.replacements import KEY, Replacements
from registry.domain.spec import ModuleSpec

Spell = Callable[[LoadedAdapter, str], str]


# -- reading ----------------------------------------------------------------------------------------------------------


def split(modules: Sequence[ModuleSpec], *, replacing: bool) -> tuple[list[ModuleSpec], list[ModuleSpec]]:
    """The modules that are replaced, if anybody wants them, and the others."""
    adapted = {module.name for module in modules if module.rank}
    replaced = [m for m in modules if m.kind == "bias" or (m.kind == "saved" and m.name not in adapted)]
    wanted = {id(module) for module in replaced if replacing}
    return [m for m in modules if id(m) in wanted], [m for m in modules if id(m) not in wanted]


def replacements(
    module: ModuleSpec, tensors: Mapping[str, Tensor], subject: str, *, base: BaseWeights | None
) -> Iterator[Replacement]:
    """The tensors of a replaced module. Raises InvalidAdapter for one that the file doesn't have."""
    for name in module.tensors.values():
        if name not in tensors:
            raise InvalidAdapter(f"{subject}, tensor {name}", "the file has no such tensor")
    for parameter, name in module.tensors.items():
        copy, _, plain = parameter.rpartition(".")
        if copy:
            _check_copy(copy, tensors[name], tensors[module.tensors[plain]], name)
            continue
        values = tensors[name]
        if not values.ndim:
            raise UnsupportedAdapter(
                subject, f"{KEY} ({module.name})", f"{name} is a single number, not a module's tensor"
            )
        label = _label(module, parameter)
        rows = partial(base.rows, label, tuple(values.shape)) if base and label else None
        yield Replacement(module.name, parameter, values, module.kind == "bias", label, rows)


def _check_copy(copy: str, values: Tensor, kept: Tensor, name: str) -> None:
    """With bias="all" PEFT stores a saved module's bias again, and the base's; it computes with neither.

    Raises InvalidAdapter where the first is another one.
    """
    if copy == "modules_to_save" and not torch.equal(values, kept):
        raise InvalidAdapter(f"tensor {name}", "it is stored twice, and differently")


def _label(module: ModuleSpec, parameter: str) -> str | None:
    """The base's tensor: a module's match is its weight's, whose siblings have the parameter's name instead."""
    if module.base_tensor is None or module.kind == "bias" or parameter == "weight":
        return module.base_tensor
    return f"{module.base_tensor.removesuffix('weight')}{parameter}"


def is_of_base(module: ModuleSpec, tensors: Mapping[str, Tensor], subject: str, *, base: BaseWeights | None) -> bool:
    """Whether a module is saved whole and is the base's own. Raises UnsupportedAdapter for one that isn't.

    PEFT saves the embeddings beside their factors (save_embedding_layers="auto"), as they were.
    """
    if module.kind != "saved":
        return False
    for role, name in module.tensors.items():
        label = module.base_tensor if role == "weight" else None
        if base is None or label is None or name not in tensors or not base.holds(label, tensors[name]):
            known = "is not the base's own" if base else "may be the base's own (--base DIR tells), or not"
            raise UnsupportedAdapter(subject, f"modules_to_save ({module.name})", f"{name} {known}; {CHOOSE}")
    return True


# -- composing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class ComposedTensor:
    """A replaced tensor of the result, in the recipe's dtype, on the CPU; `base_tensor` is the base's, where known."""

    module: str
    parameter: str
    values: Tensor
    is_bias: bool
    base_tensor: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """A replacement with the input that it comes from, and that input's weight."""

    subject: str
    digest: str
    weight: float
    item: Replacement


_Rule = Callable[[Sequence[_Input]], Iterator[Tensor]]  # the result's rows, in order


def compose_replacements(
    root: Node,
    choice: Replacements | None,
    adapters: Mapping[str, LoadedAdapter],
    *,
    spell: Spell,
    adapted: Mapping[str, str],
    dtype: torch.dtype,
) -> tuple[ComposedTensor, ...]:
    """The replaced tensors of a result, sorted by name. `adapted` is {module: form} of what has a delta in it.

    Raises UnsupportedAdapter where the choice can't be followed, InvalidRecipe where there is nothing to choose.
    """
    if choice is None:
        return ()
    found = _together(root, adapters, spell)
    if not found:
        raise InvalidRecipe(KEY, "no input replaces a module or a bias; leave the choice out")
    for (module, _), items in found.items():
        _check(module, items, adapted)
    rules: Mapping[str, _Rule] = {"average": _average, "difference": _difference, "from": partial(_one, choice)}
    return tuple(
        _composed(module, parameter, _stored(rules[choice.rule](items), items[0], dtype), items[0].item)
        for (module, parameter), items in sorted(found.items())
    )


def _composed(module: str, parameter: str, values: Tensor, like: Replacement) -> ComposedTensor:
    return ComposedTensor(module, parameter, values, like.is_bias, like.base_tensor)


def _together(root: Node, adapters: Mapping[str, LoadedAdapter], spell: Spell) -> dict[tuple[str, str], list[_Input]]:
    """The replacements of each tensor {(module, parameter): inputs in the order of their digests}."""
    weights = coefficients(root)
    found: dict[tuple[str, str], list[_Input]] = {}
    for digest, adapter in sorted(adapters.items()):
        weight = weights[digest]
        if adapter.replacements and isinstance(weight, str):
            reason = f"{weight} is defined on deltas; replaced modules go with sums, interpolations and truncations"
            raise UnsupportedAdapter(adapter.subject, KEY, reason)
        for item in adapter.replacements:
            entry = _Input(adapter.subject, digest, float(weight), item)
            found.setdefault((spell(adapter, item.module), item.parameter), []).append(entry)
    return found


def _check(module: str, items: Sequence[_Input], adapted: Mapping[str, str]) -> None:
    first = items[0]
    for other in items:
        if other.item.values.shape != first.item.values.shape:
            shapes = f"{list(first.item.values.shape)} and {list(other.item.values.shape)}"
            raise UnsupportedAdapter(other.subject, f"{KEY} ({module})", f"the inputs' have the shapes {shapes}")
        if other.item.is_bias != first.item.is_bias:
            reason = f"it is replaced whole in another input ({first.subject}), or the other way round"
            raise UnsupportedAdapter(other.subject, f"a trained bias of {module}", reason)
    kind = adapted.get(module)
    if kind and (not first.item.is_bias or kind == "parameter"):
        reason = f"another input adapts it by factors, as a {kind}, and the two have no sum"
        raise UnsupportedAdapter(first.subject, f"{KEY} ({module})", reason)


def _average(items: Sequence[_Input]) -> Iterator[Tensor]:
    total = sum(item.weight for item in items)
    negative = next((item for item in items if item.weight < 0), None)
    if negative or total <= 0:
        culprit = negative or items[0]
        raise UnsupportedAdapter(culprit.subject, f"{KEY} average", f"its weight {culprit.weight:g} gives no average")
    for start in range(0, max(1, len(items[0].item.values)), ROWS):
        blocks = [item.item.values[start : start + ROWS].double() * (item.weight / total) for item in items]
        yield torch.stack(blocks).sum(0)


def _difference(items: Sequence[_Input]) -> Iterator[Tensor]:
    missing = next((item for item in items if item.item.base is None), None)
    if missing:
        where = f"{missing.item.module}.{missing.item.parameter}"
        reason = "its tensor in the base isn't known; register the base, push again and give --base DIR, or choose "
        raise UnsupportedAdapter(missing.subject, f"{KEY} difference ({where})", f"{reason}average or from=team/name")
    read = items[0].item.base
    assert read is not None
    start = 0
    for rows in read():
        changes = [
            item.weight * (item.item.values[start : start + len(rows)].double() - rows) for item in items if item.weight
        ]
        yield rows + torch.stack(changes).sum(0)
        start += len(rows)


def _one(choice: Replacements, items: Sequence[_Input]) -> Iterator[Tensor]:
    assert choice.source is not None
    for item in items:
        if item.digest == choice.source.digest:
            yield from torch.split(item.item.values, ROWS)
            return
    reason = f"{choice.source.reference} doesn't replace it, and leaving it out would drop what was trained"
    name = f"{items[0].item.module}.{items[0].item.parameter}"
    raise UnsupportedAdapter(items[0].subject, f"{KEY} ({name})", reason)


def _stored(blocks: Iterator[Tensor], first: _Input, dtype: torch.dtype) -> Tensor:
    values = torch.cat([block.to(dtype) for block in blocks])
    if not is_finite(values):
        where = f"module {first.item.module}, {first.item.parameter}"
        raise InvalidAdapter(where, f"it overflows {dtype}; choose smaller weights or another dtype")
    return values
