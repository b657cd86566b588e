"""diffusers' LoRA loading, on a tiny U-Net with weights of its own."""

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

torch.set_num_threads(1)


def save(folder):
    """An adapter as diffusers' training scripts save it; the size of each of its deltas."""
    torch.manual_seed(7)
    model = unet()
    model.add_adapter(LoraConfig(r=3, lora_alpha=3, init_lora_weights=False, target_modules=["to_q", "to_v"]))
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    return deltas(model)


def load_into_pipeline(repo, revision):
    model = unet()
    pipeline = StableDiffusionPipeline(
        vae=None,
        text_encoder=None,
        tokenizer=None,
        unet=model,
        scheduler=DDIMScheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.load_lora_weights(repo, revision=revision)
    return deltas(model)


def load_into_model(repo, revision):
    model = unet()
    model.load_lora_adapter(repo, revision=revision, prefix="unet", use_safetensors=True)
    return deltas(model)


def unet():
    return UNet2DConditionModel(
        block_out_channels=(8, 8),
        cross_attention_dim=16,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        norm_num_groups=2,
        attention_head_dim=4,
    )


def deltas(model):
    return {
        name: round(float(layer.get_delta_weight(adapter).detach().norm()), 5)
        for name, layer in model.named_modules()
        for adapter in getattr(layer, "lora_A", {})
    }
