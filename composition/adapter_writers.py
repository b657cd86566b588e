"""Writing an adapter's layers as PEFT, kohya or diffusers keep them.

    peft        adapter_config.json and adapter_model.safetensors; one such folder a component where there are several
    kohya       sd-scripts' keys for Stable Diffusion 1.5, SDXL and Flux, an alpha beside each layer
    diffusers   `unet.….lora_A.weight`; every scaling folded into B, since not all of its readers know of alphas

Each writer returns the layers as written. A layer that the target has no name for is refused.
"""

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, uint8

from composition import flux
from composition.adapter_source import Adapter
from composition.files import exact_pattern
from composition.layers import DTYPES, Layer, deduplicate, with_scaling, with_text_model
from registry.domain.errors import UnsupportedAdapter
from registry.formats import diffusers, peft
from registry.formats.kohya_names import Family, flat_name
from registry.formats.safetensors import TensorSource, write

KOHYA_WEIGHTS = "kohya.safetensors"

_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# Roots of modules' paths -> the component that they are in, for a PEFT adapter, which doesn't say.
_ROOTS = {
    **dict.fromkeys(("down_blocks", "mid_block", "up_blocks", "conv_in", "conv_out"), "unet"),
    **dict.fromkeys(("time_embedding", "add_embedding"), "unet"),
    **dict.fromkeys(("transformer_blocks", "single_transformer_blocks", "x_embedder"), "transformer"),
    **dict.fromkeys(("context_embedder", "time_text_embed", "norm_out", "proj_out"), "transformer"),
    "text_model": "text_encoder",
}
_SDXL_CONTEXT = 2048  # inputs of its cross-attention's keys; Stable Diffusion 1.5 has 768
# Metadata of the source that would be wrong of the target.
_STALE = ("sshs_", "modelspec.hash", "ss_network_", "ss_sd_model_name", diffusers.METADATA)
_TRAINERS = ("ss_", "modelspec.")


def _with_components(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Every layer with its component in front. Raises UnsupportedAdapter for one that is of no known component."""
    return tuple(with_text_model(replace(layer, name=_with_component(layer.name))) for layer in layers)


def _with_component(name: str) -> str:
    root = name.partition(".")[0]
    if root in diffusers.COMPONENTS:
        return name
    if root not in _ROOTS:
        raise UnsupportedAdapter(
            name, "this layer", "it is of no known U-Net, transformer or text encoder of an image model"
        )
    return f"{_ROOTS[root]}.{name}"


def write_peft(adapter: Adapter, folder: Path) -> Sequence[Layer]:
    """Write one folder, or one a component."""
    layers = tuple(flux.to_diffusers(adapter.layers)) if flux.is_flux(adapter.layers) else adapter.layers
    components = Counter(layer.name.partition(".")[0] for layer in layers)
    if adapter.format == peft.NAME and not components.keys() <= set(diffusers.COMPONENTS):
        _write_peft_folder(layers, folder, adapter.base_name)
        return layers
    for component in components:
        where = folder / component if len(components) > 1 else folder
        where.mkdir(exist_ok=True)
        inside = [
            replace(layer, name=layer.name.removeprefix(f"{component}."))
            for layer in layers
            if layer.name.startswith(f"{component}.")
        ]
        _write_peft_folder(inside, where, adapter.base_name)
    return layers


def _write_peft_folder(layers: Sequence[Layer], folder: Path, base_name: str | None) -> None:
    config = json.dumps(_peft_config(layers, base_name), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / peft.CONFIG).write_text(config + "\n", encoding="utf-8")
    _write_file(folder / peft.WEIGHTS, _factors(layers, "base_model.model."), {"format": "pt"})


def _peft_config(layers: Sequence[Layer], base_name: str | None) -> dict[str, Any]:
    rank = max(layer.rank for layer in layers)
    alpha = Counter(layer.alpha for layer in layers).most_common(1)[0][0]
    return {
        "alpha_pattern": {exact_pattern(layer.name): layer.alpha for layer in layers if layer.alpha != alpha},
        "base_model_name_or_path": base_name,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {exact_pattern(layer.name): layer.rank for layer in layers if layer.rank != rank},
        "target_modules": [layer.name for layer in layers],
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }


def write_kohya(adapter: Adapter, folder: Path) -> Sequence[Layer]:
    """Write one file. Raises UnsupportedAdapter for a layer that sd-scripts has no key for."""
    # A reader of kohya's takes an alpha of 0 for none at all.
    layers = tuple(layer if layer.scaling else with_scaling(layer, 1.0) for layer in _with_components(adapter.layers))
    family = _family(layers)
    if family is Family.FLUX:
        layers = deduplicate(flux.to_bfl(layers))
    sources: list[TensorSource] = []
    for layer in layers:
        flat = flat_name(layer.name, family)
        if flat is None:
            raise UnsupportedAdapter(layer.name, "this layer", f"kohya has no key for it in a file for {family.value}")
        sources += [_source(f"{flat}.lora_down.weight", layer.A), _source(f"{flat}.lora_up.weight", layer.B)]
        sources.append(_number(f"{flat}.alpha", layer.alpha))
    _write_file(folder / KOHYA_WEIGHTS, sources, _kohya_metadata(adapter, layers, family))
    return layers


def _family(layers: Sequence[Layer]) -> Family:
    if flux.is_flux(layers):
        return Family.FLUX
    is_sdxl = any(
        layer.name.startswith(("text_encoder_2.", "unet.add_embedding."))
        or ".transformer_blocks.1." in layer.name
        or (layer.name.endswith((".attn2.to_k", ".attn2.to_v")) and layer.A.shape[1] == _SDXL_CONTEXT)
        for layer in layers
    )
    return Family.SDXL if is_sdxl else Family.SD


def _kohya_metadata(adapter: Adapter, layers: Sequence[Layer], family: Family) -> dict[str, str]:
    ranks, alphas = {layer.rank for layer in layers}, {layer.alpha for layer in layers}
    return {
        "modelspec.architecture": f"{family.value}/lora",
        **_kept(adapter.metadata),
        **({"ss_sd_model_name": adapter.base_name} if adapter.base_name else {}),
        "format": "pt",
        "ss_network_alpha": f"{alphas.pop():g}" if len(alphas) == 1 else "Dynamic",
        "ss_network_dim": str(ranks.pop()) if len(ranks) == 1 else "Dynamic",
        "ss_network_module": "networks.lora_flux" if family is Family.FLUX else "networks.lora",
    }


def write_diffusers(adapter: Adapter, folder: Path) -> Sequence[Layer]:
    """Write one file. Raises UnsupportedAdapter for a layer of no component that diffusers knows."""
    layers = _with_components(adapter.layers)
    if flux.is_flux(layers):
        layers = deduplicate(flux.to_diffusers(layers))
    layers = tuple(with_scaling(layer, 1.0) for layer in layers)
    base_name = {"base_model_name_or_path": adapter.base_name} if adapter.base_name else {}
    _write_file(folder / diffusers.WEIGHTS, _factors(layers), {**_kept(adapter.metadata), **base_name, "format": "pt"})
    return layers


def _kept(metadata: Mapping[str, str]) -> dict[str, str]:
    """What a trainer noted, without what is about the file that it wrote."""
    return {key: value for key, value in metadata.items() if key.startswith(_TRAINERS) and not key.startswith(_STALE)}


# -- files ------------------------------------------------------------------------------------------------------------


def _write_file(path: Path, sources: Sequence[TensorSource], metadata: Mapping[str, str]) -> None:
    with path.open("xb") as stream:
        write(stream, sources, metadata)


def _factors(layers: Sequence[Layer], prefix: str = "") -> list[TensorSource]:
    """The factors in the names that PEFT gives them, and diffusers after it."""
    named = [(f"{prefix}{layer.name}", layer) for layer in layers]
    return [
        *(_source(f"{name}.lora_A.weight", layer.A) for name, layer in named),
        *(_source(f"{name}.lora_B.weight", layer.B) for name, layer in named),
    ]


def _source(name: str, tensor: Tensor) -> TensorSource:
    def chunks() -> list[bytes]:
        return [tensor.reshape(-1).view(uint8).numpy().tobytes()]

    return TensorSource(name, _NAMES[tensor.dtype], tuple(tensor.shape), chunks)


def _number(name: str, value: float) -> TensorSource:
    return TensorSource(name, "F32", (), lambda: [struct.pack("<f", value)])
