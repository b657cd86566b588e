"""Whether the inputs of a composition say the same of a module: its kind of layer, its experts, its biases.

What differs is refused by name: a result that leaves one input's part out, or that PEFT builds otherwise, isn't a sum.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from composition.adapter import LoadedAdapter, LoadedModule
from composition.methods import METHODS
from composition.terms import Form, stacks
from composition.tree import weights_of
from registry.domain.errors import UnsupportedAdapter
from registry.domain.recipe import Leaf, Node
from registry.formats import diffusers, peft

_FILE = "and the result, in diffusers' format, holds linear layers and convolutions only"
_CONVERT = "register the base and push both for it, or convert one (`adapters convert`)"


def agreed_forms(adapters: Iterable[LoadedAdapter], names: Mapping[str, str]) -> dict[str, Form]:
    """The form of each module of the result {key: form}. Raises UnsupportedAdapter where the inputs' differ.

    Inputs that adapt parameters of one module must adapt the same ones: PEFT nests their wrappers, and doesn't store
    which of them a tensor is of.
    """
    forms: dict[str, Form] = {}
    holders: dict[str, set[str]] = {}
    for adapter in sorted(adapters, key=lambda adapter: adapter.subject):
        for key, module in adapter.by_key.items():
            if forms.setdefault(key, module.form) != module.form:
                reason = f"it is a {module.form} here and a {forms[key]} in another input"
                raise UnsupportedAdapter(adapter.subject, f"the module {module.name}", reason)
        parameters = [names[key] for key, module in adapter.by_key.items() if module.form.kind == "parameter"]
        for holder, found in stacks(parameters).items():
            if holders.setdefault(holder, found) != found:
                different = min(found ^ holders[holder])
                reason = "it is adapted by one input and not by another, which adapts others of the same module"
                raise UnsupportedAdapter(adapter.subject, f"the parameter {different}", reason)
    return forms


def agreed_layout(adapters: Iterable[LoadedAdapter], forms: Mapping[str, Form]) -> str:
    """The format of a result with modules {name: form}: PEFT's, unless an input is in one that says components.

    Raises UnsupportedAdapter for what a file of diffusers can't hold.
    """
    adapters = sorted(adapters, key=lambda adapter: adapter.subject)
    single = next((adapter for adapter in adapters if adapter.summary.format != peft.NAME), None)
    if single is None:
        return peft.NAME
    for name, form in forms.items():
        if form.kind not in ("linear", "conv"):
            raise UnsupportedAdapter(f"the module {name}", str(form), f"{single.subject} is no PEFT adapter, {_FILE}")
        if name.partition(".")[0] not in diffusers.COMPONENTS:
            reason = f"{single.subject} says its modules' components, and this one's isn't known; {_CONVERT}"
            raise UnsupportedAdapter("the inputs", f"the module {name}", reason)
    for adapter in adapters:
        kind = "lora_bias" if any(module.bias is not None for module in adapter.modules) else ""
        if kind := kind or ("modules_to_save" if adapter.replacements else ""):
            raise UnsupportedAdapter(adapter.subject, kind, f"{single.subject} is no PEFT adapter, {_FILE}")
    return diffusers.NAME


def bias_of(root: Node, modules: Mapping[str, LoadedModule]) -> Tensor | None:
    """What a recipe makes of the biases of one module, of inputs {content digest: module}: (out,), float64, or None.

    Sums add them up, and truncation leaves them whole.
    Raises UnsupportedAdapter where a method would have to merge one.
    """
    if isinstance(root, Leaf):
        module = modules.get(root.digest or "")
        return module.bias if module else None
    found = [bias_of(child, modules) for child in root.children]
    if root.method in METHODS and any(bias is not None for bias in found):
        reason = (
            f"{root.method} is defined on weights, and not on the biases of lora_B; sums and truncations combine both"
        )
        raise UnsupportedAdapter("an input", "lora_bias", reason)
    terms = [weight * bias for weight, bias in zip(weights_of(root), found, strict=True) if bias is not None]
    return torch.stack(terms).sum(0) if terms else None


def check_biases(names: Sequence[str], forms: Sequence[Form]) -> None:
    """lora_bias belongs to the whole adapter, and PEFT builds it for linear layers and convolutions only."""
    for name, form in zip(names, forms, strict=True):
        if form.kind not in ("linear", "conv"):
            reason = f"another module has biases (lora_bias), which PEFT doesn't allow beside an adapted {form.kind}"
            raise UnsupportedAdapter("the result", f"the module {name}", reason)


def check_truncated(root: Node, adapters: Mapping[str, LoadedAdapter]) -> None:
    """Raises UnsupportedAdapter for an input with DoRA, whose delta has full rank, that nothing truncates."""
    _refuse_full_rank(_of_full_rank(root, adapters))


def _of_full_rank(node: Node, adapters: Mapping[str, LoadedAdapter]) -> str | None:
    """An input of full rank that reaches a node. Raises UnsupportedAdapter where it reaches a method."""
    if isinstance(node, Leaf):
        adapter = adapters[node.digest or ""]
        return adapter.subject if any(module.decomposed for module in adapter.modules) else None
    found = [_of_full_rank(child, adapters) for child in node.children]
    subject = next(filter(None, found), None)
    if node.method in METHODS:
        _refuse_full_rank(subject)
    return None if node.method == "truncate" else subject


def _refuse_full_rank(subject: str | None) -> None:
    if subject is not None:
        reason = f"its true delta has full rank: write truncate({subject}, rank=R), or --rank R around a sum"
        raise UnsupportedAdapter(subject, "dora without a truncation", reason)
