"""IA3: vectors that multiply a layer's outputs or inputs. What adds up in an expression are their logarithms:

    a + b  is  l_a · l_b,  0.5*a + 0.5*b (and lerp) the geometric mean, -a the reciprocal:  l = Π l_i ^ c_i

element by element, in float64. A + b is what PEFT computes with both adapters active. An adapter without a layer
multiplies it by 1. Source: peft 0.21.2, tuners/ia3/layer.py, Linear.forward.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from composition.adapter import LoadedAdapter, Scale
from composition.low_rank import is_finite
from composition.report import ModuleReport
from composition.tree import coefficients
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.recipe import Leaf, Node
from registry.domain.spec import ModuleSpec
from registry.formats import ia3

_RULE = "vectors are multiplied, and only sums, differences, coefficients and lerp have a meaning for that"


def load_scale(module: ModuleSpec, tensors: Mapping[str, Tensor], subject: str) -> Scale:
    """The vector of a module. Raises InvalidAdapter if the file doesn't have it in its shape."""
    name = module.tensors["scale"]
    if name not in tensors or tensors[name].shape != module.base_shape:
        reason = f"the file has no such tensor of shape {list(module.base_shape)}"
        raise InvalidAdapter(f"{subject}, tensor {name}", reason)
    inward, dimensions = ia3.FEEDFORWARD in module.variants, len(module.base_shape)
    return Scale(module.name, module.base_tensor, tensors[name].flatten(), inward, dimensions)


def compose_scales(
    root: Node,
    adapters: Mapping[str, LoadedAdapter],
    *,
    spell: Callable[[LoadedAdapter, str], str],
    dtype: torch.dtype,
) -> list[tuple[Scale, ModuleReport]]:
    """The vectors of a result, of the recipe's dtype, sorted by name; none if no input has any.

    `norm` of a report is that of l - 1. Raises UnsupportedAdapter for inputs, methods or numbers without a product.
    """
    if not any(adapter.scales for adapter in adapters.values()):
        return []
    _check(root, adapters)
    weights = coefficients(root)
    found: dict[str, list[tuple[LoadedAdapter, float, Scale]]] = {}
    for digest, adapter in sorted(adapters.items()):
        for scale in adapter.scales:
            found.setdefault(spell(adapter, scale.name), []).append((adapter, float(weights[digest]), scale))
    return [_composed(name, found[name], dtype) for name in sorted(found)]


def _check(root: Node, adapters: Mapping[str, LoadedAdapter]) -> None:
    other = next((adapter for adapter in adapters.values() if not adapter.scales), None)
    if other:
        raise UnsupportedAdapter(other.subject, "LoRA with IA3", "the other inputs are IA3, whose vectors multiply")
    if isinstance(root, Leaf):
        return
    if root.method != "linear":
        raise UnsupportedAdapter("the inputs", f"{root.method} of IA3", _RULE)
    for child in root.children:
        _check(child, adapters)


def _composed(
    name: str, items: Sequence[tuple[LoadedAdapter, float, Scale]], dtype: torch.dtype
) -> tuple[Scale, ModuleReport]:
    _, _, first = items[0]
    product = torch.ones(first.values.shape, dtype=torch.float64)
    for adapter, weight, scale in items:
        if _side(scale) != _side(first):
            reason = "another input multiplies the other side of the layer, or one of another size"
            raise UnsupportedAdapter(adapter.subject, f"the vector of {scale.name}", reason)
        power = scale.values.double() ** weight
        if not is_finite(power):
            reason = f"it has values that have no power {weight:g}: zero, or negative"
            raise UnsupportedAdapter(adapter.subject, f"the vector of {scale.name}", reason)
        product *= power
    values = product.to(dtype)
    if not is_finite(values):
        raise InvalidAdapter(f"module {name}", f"its vector overflows {dtype}; choose smaller weights")
    change, rounding = float((product - 1).norm()), float((product - values.double()).norm())
    return replace(first, name=name, values=values), ModuleReport(name, 0, 0, change, 0.0, rounding)


def _side(scale: Scale) -> tuple[int, bool, int]:
    return len(scale.values), scale.inward, scale.dimensions


def tensors(scales: Sequence[Scale], prefix: str) -> dict[str, Tensor]:
    """The vectors as PEFT stores them."""
    return {f"{prefix}{scale.name}.ia3_l": scale.values.reshape(_stored_shape(scale)) for scale in scales}


def _stored_shape(scale: Scale) -> tuple[int, ...]:
    if scale.dimensions == 2 and not scale.inward:
        return (-1, 1)
    return (1, -1, *(1 for _ in range(scale.dimensions - 2)))


def config(scales: Sequence[Scale], pattern: Callable[[Sequence[str]], str]) -> dict[str, Any]:
    """What PEFT's configuration says of the vectors. `pattern` is a regular expression for exactly these names."""
    inward = [scale.name for scale in scales if scale.inward]
    return {
        "exclude_modules": None,
        "feedforward_modules": pattern(inward) if inward else [],
        "init_ia3_weights": True,
        "peft_type": ia3.PEFT_TYPE,
        "target_modules": pattern([scale.name for scale in scales]),
    }
