"""diffusers' adapters: one safetensors file with dotted names, the component first, in each form that was ever written.

    unet.<layer>.lora_A.weight, .lora_B.weight                 since PEFT (also .lora.down.weight, .lora.up.weight)
    unet.<block>.attn1.processor.to_q_lora.down.weight         before that; without `unet.` from save_attn_procs
    text_encoder.<layer>.lora_linear_layer.down.weight         and `…self_attn.to_q_lora.down.weight` before
    <layer>.alpha, <layer>.lora_down…weight.alpha              network alphas, where somebody kept them

A layer's scaling is its alpha's, else that of the `lora_adapter_metadata` (PEFT's configuration, the component in
front of each key), else 1: alpha = rank.

Source: diffusers 0.42, utils/state_dict_utils.py, loaders/lora_base.py, loaders/lora_conversion_utils.py.
"""

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

from registry.domain.errors import InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats.json_document import parse_object
from registry.formats.layers import Layer, build_lora, printable, summarise
from registry.formats.peft_config import LoraSettings, read_settings
from registry.formats.safetensors import Header

NAME = "diffusers"
WEIGHTS = "pytorch_lora_weights.safetensors"
METADATA = "lora_adapter_metadata"
COMPONENTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "text_encoder_3", "prior")

_UNET_ROOTS = ("down_blocks", "mid_block", "up_blocks")
_ROLES = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora.down.weight": "A",
    "lora.up.weight": "B",
    "lora_linear_layer.down.weight": "A",
    "lora_linear_layer.up.weight": "B",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "lora_B.bias": "bias_B",
    "lora_A.weight.alpha": "alpha",
    "lora.down.weight.alpha": "alpha",
    "lora_linear_layer.down.weight.alpha": "alpha",
    "alpha": "alpha",
}
_OLD = {"down.weight": "A", "up.weight": "B", "down.weight.alpha": "alpha"}  # behind `to_q_lora`
_OLD_UNET = {"to_q_lora": "to_q", "to_k_lora": "to_k", "to_v_lora": "to_v", "to_out_lora": "to_out.0"}
_OLD_TEXT = {"to_q_lora": "q_proj", "to_k_lora": "k_proj", "to_v_lora": "v_proj", "to_out_lora": "out_proj"}
_SETTINGS_THAT_MATTER = frozenset({"rslora", "dora", "lora_bias", "rank_pattern", "alpha_pattern"})


def recognises(names: Iterable[str]) -> bool:
    """Whether tensors of these names look like diffusers'."""
    return any(name.partition(".")[0] in (*COMPONENTS, *_UNET_ROOTS) for name in names)


def read(header: Header, scalars: Mapping[str, float]) -> AdapterSpec:
    """Read an adapter from its header and the values of its alphas {tensor name: alpha}.

    Raises InvalidAdapter, RankMismatch or UnsupportedAdapter naming the tensor, InvalidFile for the metadata.
    """
    layers: dict[str, Layer] = {}
    for tensor in header.tensors:
        name, role = _locate(tensor.name)
        layers.setdefault(name, Layer(name)).add(role, tensor)
    settings = _settings(header.metadata)
    modules = tuple(
        sorted((_build(layer, scalars, settings) for layer in layers.values()), key=lambda module: module.name)
    )
    for module in modules:
        _check_magnitude(module, layers[module.name])
    base = printable(header.metadata, "base_model_name_or_path", "ss_sd_model_name", "modelspec.architecture")
    return AdapterSpec(summarise(modules, header.tensors, format=NAME, base_name=base), modules, dict(header.metadata))


def _check_magnitude(module: ModuleSpec, layer: Layer) -> None:
    """PEFT's DoRA has a magnitude for each output. Raises InvalidAdapter for another number of them."""
    magnitude = layer.tensors.get("magnitude")
    if magnitude is not None and prod(magnitude.shape) != module.out_features:
        reason = f"its shape is {list(magnitude.shape)}; {module.out_features} outputs would explain it"
        raise InvalidAdapter(magnitude.name, reason)


def _locate(name: str) -> tuple[str, str]:
    """The canonical name of the layer that a tensor belongs to, and its role there. Raises InvalidAdapter."""
    path = name if name.partition(".")[0] in COMPONENTS else f"unet.{name}"
    if path.split(".")[1] not in _UNET_ROOTS and path is not name:
        raise InvalidAdapter(name, f"it begins with no component; known are {', '.join(COMPONENTS)}")
    path = path.replace(".processor.", ".")
    old = _OLD_TEXT if path.startswith("text_encoder") else _OLD_UNET
    for suffix, role in _OLD.items():
        holder, _, last = path.removesuffix(f".{suffix}").rpartition(".")
        if path.endswith(f".{suffix}") and last in old:
            return _checked(f"{holder}.{old[last]}", name), role
    for suffix, role in _ROLES.items():
        if path.endswith(f".{suffix}"):
            return _checked(path.removesuffix(f".{suffix}"), name), role
    raise InvalidAdapter(name, "it is no factor, no alpha and no magnitude of a diffusers adapter")


def _checked(layer: str, name: str) -> str:
    if layer.count(".") < 1 or not all(layer.split(".")):
        raise InvalidAdapter(name, "it names no layer")
    return layer


# -- scaling ----------------------------------------------------------------------------------------------------------


def _settings(metadata: Mapping[str, str]) -> dict[str, LoraSettings]:
    """The PEFT configuration of each component that the file has one for."""
    text = metadata.get(METADATA)
    if text is None:
        return {}
    documents: dict[str, dict[str, Any]] = {}
    for key, value in parse_object(text.encode(), path=METADATA).items():
        component, _, rest = key.partition(".")
        if component not in COMPONENTS or not rest:
            raise InvalidAdapter(f"{METADATA}: {key[:80]}", "it begins with no component")
        documents.setdefault(component, {})[rest] = value
    return {
        component: read_settings({"peft_type": "LORA", **document}, path=METADATA)
        for component, document in documents.items()
    }


def _build(layer: Layer, scalars: Mapping[str, float], settings: Mapping[str, LoraSettings]) -> ModuleSpec:
    component, _, path = layer.name.partition(".")
    found = settings.get(component)
    alpha = scalars[layer.tensors["alpha"].name] if "alpha" in layer.tensors else None
    if alpha is not None or found is None:
        return build_lora(layer, alpha)
    if unknown := sorted(found.variants - _SETTINGS_THAT_MATTER):
        raise UnsupportedAdapter(METADATA, unknown[0], "a diffusers file is not read as that")
    rank, alpha = found.rank_of(path), found.alpha_of(path)
    module = build_lora(layer, alpha, scaling=found.scaling(rank, alpha))
    if module.rank != rank:
        raise RankMismatch(layer.tensors["A"].name, expected=rank, found=module.rank)
    return module
