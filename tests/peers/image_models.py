"""Tiny image models of diffusers, with random weights, and adapters that PEFT makes for them.

Real are the names of the layers, and of Flux the size, by which its fused layers are told apart; its weights are never
set, since only the adapters' deltas are looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from peft import LoraConfig, get_peft_model
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

Deltas = dict[str, torch.Tensor]

ATTENTION = r".*attn\d\.(to_q|to_k|to_v|to_out\.0)|.*proj_in|.*ff\.net\.(0\.proj|2)"
CLIP = ["q_proj", "v_proj", "out_proj", "fc1"]
FLUX = (
    r".*attn\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
    r"|.*ff(_context)?\.net\.(0\.proj|2)|.*norm1\.linear|.*proj_mlp|.*single_transformer_blocks.*proj_out"
)


@dataclass(frozen=True)
class Family:
    """A kind of pipeline: what makes one, and the layers that are adapted in each of its components."""

    pipeline: Any
    targets: Mapping[str, Any]


def unet(*, is_sdxl: bool = False) -> UNet2DConditionModel:
    cross, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    up, plain_up = "CrossAttnUpBlock2D", "UpBlock2D"
    size: dict[str, Any] = {"norm_num_groups": 2, "attention_head_dim": 4}
    if not is_sdxl:
        return UNet2DConditionModel(
            block_out_channels=(8, 8),
            cross_attention_dim=16,
            down_block_types=(cross, plain),
            up_block_types=(plain_up, up),
            layers_per_block=1,
            **size,
        )
    return UNet2DConditionModel(
        block_out_channels=(8, 8, 8),
        cross_attention_dim=2048,
        down_block_types=(plain, cross, cross),
        up_block_types=(up, up, plain_up),
        layers_per_block=2,
        transformer_layers_per_block=(1, 1, 2),
        use_linear_projection=True,
        **size,
    )


def text_encoder(kind: Any = CLIPTextModel) -> Any:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return kind(CLIPTextConfig(**size, vocab_size=20, projection_dim=16))


def stable_diffusion() -> StableDiffusionPipeline:
    return StableDiffusionPipeline(
        vae=None,
        text_encoder=text_encoder(),
        tokenizer=None,
        unet=unet(),
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def stable_diffusion_xl() -> StableDiffusionXLPipeline:
    return StableDiffusionXLPipeline(
        vae=None,
        text_encoder=text_encoder(),
        text_encoder_2=text_encoder(CLIPTextModelWithProjection),
        tokenizer=None,
        tokenizer_2=None,
        unet=unet(is_sdxl=True),
        scheduler=DDIMScheduler(),
        add_watermarker=False,
    )


def flux() -> FluxPipeline:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=None,
        tokenizer_2=None,
        transformer=transformer.to_empty(device="cpu"),
    )


FAMILIES: Mapping[str, Family] = {
    "Stable Diffusion 1.5": Family(stable_diffusion, {"unet": ATTENTION, "text_encoder": CLIP}),
    "SDXL": Family(stable_diffusion_xl, {"unet": ATTENTION, "text_encoder": CLIP, "text_encoder_2": CLIP}),
    "Flux": Family(flux, {"transformer": FLUX}),
}


def save_adapters(family: Family, folder: Path, patterns: Mapping[str, Any]) -> Deltas:
    """PEFT's own folder for each component, with random factors; returns what PEFT computes, by component and layer."""
    torch.manual_seed(7)
    deltas: Deltas = {}
    pipeline = family.pipeline()
    for component, targets in family.targets.items():
        config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, init_lora_weights=False, **patterns)
        model = get_peft_model(getattr(pipeline, component), config)
        model.save_pretrained(folder / component)
        deltas |= deltas_of(model.base_model.model, component)
    return deltas


def deltas_of(model: torch.nn.Module, component: str) -> Deltas:
    """{component.layer: delta} of every layer with an adapter, its scaling included."""
    found: Deltas = {}
    for name, layer in model.named_modules():
        for adapter in getattr(layer, "lora_A", {}):
            found[f"{component}.{name}"] = layer.get_delta_weight(adapter).detach()
    return found
