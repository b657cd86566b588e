"""Make the golden files: adapters that peers' own code wrote for tiny models, and what they compute from them.

    python tests/golden/make.py          in an environment with diffusers, lycoris-lora, peft and transformers

Each `NAME.safetensors` is an adapter as the peer saved it; `NAME.deltas.safetensors` holds the deltas that the peer
itself computes, in float32, under the base's tensor names. `names.json.gz` has the layers of the real architectures:
those of sd-scripts' own SDXL and Flux as it flattens them (made only where its checkout is on PYTHONPATH), and
diffusers' names for its Stable Diffusion 1.5 and SDXL.
"""

import contextlib
import gzip
import json
import warnings
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from lycoris import LycorisNetwork, create_lycoris
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).parent
TARGETS = r".*(mid_block|down_blocks\.0)\..*(to_q|to_v|proj_in|conv1)"


def unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        block_out_channels=(4, 8),
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
    )


def text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    )


def randomise(parameters: object) -> None:
    for name, parameter in parameters:  # type: ignore[attr-defined]
        if "lora" in name or "hada" in name or "lokr" in name:
            parameter.data.normal_()


def deltas_of(model: torch.nn.Module, component: str) -> dict[str, torch.Tensor]:
    """What PEFT computes inside a model of diffusers."""
    return {
        f"{component}.{name}.weight": layer.get_delta_weight("default").detach().float().contiguous()
        for name, layer in model.named_modules()
        if "default" in getattr(layer, "lora_A", {})
    }


def diffusers_files() -> None:
    """The file that a diffusers training script writes, with its metadata; and the same in kohya's names."""
    model, encoder = unet(), text_encoder()
    config = LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS, rank_pattern={"conv1": 3}, alpha_pattern={"to_v": 5})
    model.add_adapter(config)
    encoder_config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "fc1"])
    encoder.add_adapter(encoder_config)
    for part in (model, encoder):
        randomise(part.named_parameters())
    deltas = {**deltas_of(model, "unet"), **deltas_of(encoder, "text_encoder")}
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(model))
    text_layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(encoder))
    StableDiffusionPipeline.save_lora_weights(
        HERE,
        unet_lora_layers=layers,
        text_encoder_lora_layers=text_layers,
        weight_name="diffusers.safetensors",
        unet_lora_adapter_metadata=config.to_dict(),
        text_encoder_lora_adapter_metadata=encoder_config.to_dict(),
    )
    save_file(deltas, HERE / "diffusers.deltas.safetensors")


def lycoris_file(algorithm: str, **options: object) -> None:
    """A LyCORIS network on the U-Net, in the keys that sd-scripts' trainer gives it."""
    torch.manual_seed(1)
    model = unet()
    LycorisNetwork.apply_preset({"target_module": ["Transformer2DModel", "ResnetBlock2D"]})
    LycorisNetwork.LORA_PREFIX = "lora_unet"
    network = create_lycoris(model, 1.0, linear_dim=2, linear_alpha=3, algo=algorithm, **options)
    wanted = ("attn1_to_q", "proj_in", "0_conv1", "ff_net_2")
    state, deltas = {}, {}
    names = {"lora_unet_" + name.replace(".", "_"): name for name, _ in model.named_modules()}
    for layer in network.loras:
        if not layer.lora_name.endswith(wanted) or "_up_blocks" in layer.lora_name:
            continue
        randomise(layer.named_parameters())
        state |= {f"{layer.lora_name}.{key}": value.detach().contiguous() for key, value in layer.state_dict().items()}
        weight = layer.get_weight(layer.shape) if hasattr(layer, "get_weight") else layer.get_diff_weight()[0]
        deltas[f"unet.{names[layer.lora_name]}.weight"] = weight.detach().float().contiguous()
    save_file(state, HERE / f"lycoris-{algorithm}.safetensors")
    save_file(deltas, HERE / f"lycoris-{algorithm}.deltas.safetensors")


def leaves(model: torch.nn.Module) -> list[str]:
    return sorted(name for name, layer in model.named_modules() if type(layer).__name__ in {"Linear", "Conv2d"})


def name_lists() -> None:
    from library.flux_models import Flux, configs
    from library.sdxl_original_unet import SdxlUNet2DConditionModel

    cross, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    up, plain_up = "CrossAttnUpBlock2D", "UpBlock2D"
    with torch.device("meta"):
        lists = {
            "sd": leaves(UNet2DConditionModel()),
            "sdxl": leaves(
                UNet2DConditionModel(
                    block_out_channels=(320, 640, 1280),
                    down_block_types=(plain, cross, cross),
                    up_block_types=(up, up, plain_up),
                    transformer_layers_per_block=(1, 2, 10),
                    use_linear_projection=True,
                    addition_embed_type="text_time",
                    addition_time_embed_dim=256,
                    projection_class_embeddings_input_dim=2816,
                )
            ),
            "sdxl-kohya": leaves(SdxlUNet2DConditionModel()),
            "flux-kohya": leaves(Flux(configs["dev"].params)),
        }
    flat = {key: [name.replace(".", "_") if "kohya" in key else name for name in names] for key, names in lists.items()}
    (HERE / "names.json.gz").write_bytes(gzip.compress(json.dumps(flat).encode(), mtime=0))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    diffusers_files()
    lycoris_file("lora", conv_dim=2, conv_alpha=1)
    lycoris_file("loha", conv_dim=2, conv_alpha=1)
    lycoris_file("lokr", conv_dim=2, conv_alpha=1, factor=2)
    with contextlib.suppress(ImportError):
        name_lists()
