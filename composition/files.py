"""Adapters from and to files: safetensors in, canonical PEFT out (or diffusers' file, see `single_file`).

Reading is sequential and hashes what it reads; nothing is returned before the digest is right. What is written says
everything explicitly: alpha = rank (so that PEFT's scaling is 1 in every module), rsLoRA off, initialisation flags
cleared, each module named, ranks that differ as anchored patterns. The same composition gives the same bytes.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from composition import ia3
from composition.adapter import LoadedAdapter, LoadedModule, check_composable
from composition.base_weights import BaseWeights
from composition.dora import decomposed
from composition.engine import Composition
from composition.ia3 import load_scale
from composition.module import ComposedModule
from composition.replaced import ComposedTensor, is_of_base, replacements, split
from composition.single_file import diffusers_tensors, load_modules, lycoris_module
from composition.stored_tensors import read_tensors
from composition.tensor_file import save_tensors
from composition.terms import factor_shapes, holder_of, pack, pack_experts, stack_of, unpack
from composition.verified_stream import verified
from registry.domain.errors import InvalidAdapter
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats import diffusers, peft
from registry.formats.ia3 import PEFT_TYPE as IA3

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

_PREFIX = "base_model.model."
_FACTORS: Mapping[str, tuple[str, str]] = {
    "linear": ("lora_A.weight", "lora_B.weight"),
    "conv": ("lora_A.weight", "lora_B.weight"),
    "embedding": ("lora_embedding_A", "lora_embedding_B"),
}


# -- reading ----------------------------------------------------------------------------------------------------------


def load_adapter(
    stream: BinaryIO,
    spec: AdapterSpec,
    *,
    subject: str,
    file: FileEntry,
    base: BaseWeights | None = None,
    replacing: bool = False,
    given_init: bool = False,
) -> LoadedAdapter:
    """Read the factors of an adapter from its safetensors file, as they are stored; other tensors as float32.

    `file` says what the stream must be, `subject` what errors call the adapter, `base` where DoRA finds the weights
    that it was trained on, `replacing` that modules and biases that it replaces are wanted; for `given_init` see
    `check_composable`. The factors are views of one copy of the file.
    Raises UnsupportedAdapter, DigestMismatch, InvalidFile, InvalidAdapter.
    """
    check_composable(subject, spec, with_base=base is not None, replacing=replacing, given_init=given_init)
    with verified(stream, subject=subject, file=file) as source:
        if spec.summary.format != peft.NAME:
            modules = load_modules(source, spec, subject=subject, file=file, base=base)
            return LoadedAdapter(subject, spec.summary, modules)
        tensors = read_tensors(source, spec, subject=subject, file=file)
    if spec.summary.peft_type == IA3:
        return LoadedAdapter(
            subject, spec.summary, (), scales=tuple(load_scale(module, tensors, subject) for module in spec.modules)
        )
    replaced, others = split(spec.modules, replacing=replacing)
    changed = [module for module in others if not is_of_base(module, tensors, subject, base=base)]
    modules = tuple(part for module in changed for part in _modules(module, tensors, subject, base=base))
    whole = tuple(item for module in replaced for item in replacements(module, tensors, subject, base=base))
    return LoadedAdapter(subject, spec.summary, modules, whole)


def _modules(
    module: ModuleSpec, tensors: Mapping[str, Tensor], subject: str, *, base: BaseWeights | None
) -> Iterator[LoadedModule]:
    if module.kind in ("loha", "lokr"):
        yield lycoris_module(module, tensors, subject)
        return
    stored = {role: _checked(module, role, tensors, subject=subject) for role in module.tensors}
    bias = stored["bias_B"].double() * module.scaling if "bias_B" in stored else None
    dora = decomposed(module, stored["magnitude"], base, subject) if base and "magnitude" in stored else None
    for part in unpack(module, stored["A"], stored["B"]):
        base_tensor = module.base_tensor and module.base_tensor + part.suffix
        yield LoadedModule(module.name + part.suffix, base_tensor, part.delta, part.form, bias, dora)


def _checked(module: ModuleSpec, role: str, tensors: Mapping[str, Tensor], *, subject: str) -> Tensor:
    name, shape = module.tensors[role], factor_shapes(module).get(role)
    found = tensors.get(name)
    if role == "magnitude" and found is not None and found.numel() == module.out_features:
        return found  # a convolution's is stored as (1, out, 1…), and checked when the configuration is read
    if found is None or found.shape != shape:
        raise InvalidAdapter(f"{subject}, tensor {name}", f"the file has no such tensor of shape {list(shape or ())}")
    return found


# -- writing ----------------------------------------------------------------------------------------------------------


def save_composition(composition: Composition, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors into an existing folder, or the one file of diffusers."""
    tensors = dict(module_tensors(composition.modules, composition.layout))
    if composition.layout == peft.NAME:
        save_config(composition, folder)
        tensors |= dict(_replaced(composition)) | ia3.tensors(composition.scales, _PREFIX)
    path, metadata = weights_place(composition.layout, composition.base_name)
    save_tensors(folder / path, tensors, metadata)


def weights_place(layout: str, base_name: str | None) -> tuple[str, dict[str, str]]:
    """The name of the file that a layout keeps its tensors in, and that file's metadata."""
    if layout == peft.NAME:
        return WEIGHTS_NAME, {"format": "pt"}
    return diffusers.WEIGHTS, {"format": "pt", **({"base_model_name_or_path": base_name} if base_name else {})}


def save_config(composition: Composition, folder: Path) -> None:
    """Write adapter_config.json into a folder."""
    config = json.dumps(peft_config(composition), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CONFIG_NAME).write_text(config + "\n", encoding="utf-8")


def peft_config(composition: Composition) -> dict[str, Any]:
    """The configuration of a composed adapter, with every key that changes what PEFT computes.

    `r` is the largest rank, since engines reserve room by it; modules of another rank are named in the patterns.
    """
    if composition.scales:
        return {**_shared_config(composition), **ia3.config(composition.scales, any_of)}
    stored = stored_ranks(composition.modules)
    largest = max(stored.values())
    ranks = {exact_pattern(name): rank for name, rank in stored.items() if rank != largest}
    parameters = {stack_of(module.name) for module in composition.modules if module.form.kind == "parameter"}
    return {
        **_shared_config(composition),
        "alpha_pattern": ranks,
        "bias": _trained_biases(composition, stored),
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": largest,
        "lora_bias": any(module.bias is not None for module in composition.modules),
        "lora_dropout": 0.0,
        "modules_to_save": _saved_modules(composition.replaced) or None,
        "peft_type": "LORA",
        "r": largest,
        "rank_pattern": ranks,
        "target_modules": [name for name in stored if name not in parameters],
        "target_parameters": sorted(parameters & stored.keys()) or None,
        "use_dora": False,
        "use_rslora": False,
    }


def _shared_config(composition: Composition) -> dict[str, Any]:
    return {
        "base_model_name_or_path": composition.base_name,
        "fan_in_fan_out": composition.fan_in_fan_out,
        "inference_mode": True,
        "revision": composition.base_revision,
        "task_type": composition.task_type,
    }


def any_of(names: Sequence[str]) -> str:
    """A regular expression that matches these modules and no other, as PEFT reads one: the whole name."""
    return "|".join(re.escape(name) for name in sorted(names))


def _trained_biases(composition: Composition, stored: Mapping[str, int]) -> str:
    biases = [item.module for item in composition.replaced if item.is_bias]
    return "none" if not biases else "lora_only" if stored.keys() >= set(biases) else "all"


def _saved_modules(replaced: Iterable[ComposedTensor]) -> list[str]:
    """The outermost of the modules that are saved whole: PEFT wraps each of them, and nests no wrappers."""
    names = {item.module for item in replaced if not item.is_bias}
    return sorted(name for name in names if not any(name.startswith(f"{other}.") for other in names))


def stored_ranks(modules: Iterable[ComposedModule]) -> dict[str, int]:
    """The rank that each module is stored at {name: rank}, experts put together in their parameter.

    All experts of all parameters of one module share a rank: PEFT's file doesn't say which parameter a tensor is of,
    so that a pattern couldn't tell them apart. A module whose experts have no delta at all is left out.
    """
    ranks: dict[str, int] = {}
    experts = [module for module in modules if module.form.kind == "parameter"]
    shared: dict[str, int] = {}
    for module in experts:
        holder = holder_of(module.name)
        shared[holder] = max(shared.get(holder, 0), module.delta.rank)
    for module in modules:
        if module.form.kind != "parameter":
            ranks[module.name] = module.delta.rank
        elif shared[holder_of(module.name)]:
            ranks[stack_of(module.name)] = shared[holder_of(module.name)]
    return ranks


def exact_pattern(name: str) -> str:
    """A key of rank_pattern that matches this module and no other.

    PEFT reads a key as `(.*\\.)?(key)$` from the beginning of a name, so an unanchored one would also match the module
    inside another. Source: peft 0.21.2, utils/other.py, get_pattern_key.
    """
    return f"^{re.escape(name)}"


def module_tensors(modules: Sequence[ComposedModule], layout: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors of modules, by the names that a layout's file has for them."""
    yield from _tensors(modules) if layout == peft.NAME else diffusers_tensors(modules)


def _tensors(modules: Sequence[ComposedModule]) -> Iterator[tuple[str, Tensor]]:
    stacks: dict[str, list[ComposedModule]] = {}
    for module in modules:
        if module.form.kind == "parameter":
            stacks.setdefault(stack_of(module.name), []).append(module)
            continue
        a, b = _FACTORS[module.form.kind]
        path = f"{_PREFIX}{module.name}"
        factors = pack(module.delta, module.form)
        yield from zip((f"{path}.{a}", f"{path}.{b}"), factors, strict=True)
        if module.bias is not None:
            yield f"{path}.lora_B.bias", module.bias
    ranks = stored_ranks(modules)
    for name, experts in stacks.items():
        if name in ranks:
            yield from _stack(experts, ranks[name])


def _replaced(composition: Composition) -> Iterator[tuple[str, Tensor]]:
    """PEFT keeps a bias where its wrapper has put it."""
    wrapped = stored_ranks(composition.modules)
    for item in composition.replaced:
        inner = ".base_layer" if item.is_bias and item.module in wrapped else ""
        yield f"{_PREFIX}{item.module}{inner}.{item.parameter}", item.values


def _stack(experts: list[ComposedModule], rank: int) -> Iterator[tuple[str, Tensor]]:
    experts = sorted(experts, key=lambda module: module.form.expert)
    first = experts[0]
    path = f"{_PREFIX}{holder_of(first.name)}{'.base_layer' * first.form.nesting}"
    factors = pack_experts([expert.delta for expert in experts], rank)
    yield from zip((f"{path}.lora_A.weight", f"{path}.lora_B.weight"), factors, strict=True)
