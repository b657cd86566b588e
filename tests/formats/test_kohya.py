"""sd-scripts' keys against its own models' names, and its files as they are meant; doubtful ones refused by name."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from registry.domain.errors import AdaptersError, InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.spec import AdapterSpec
from registry.formats.folder import read_path
from registry.formats.kohya_names import Family, canonical_name, flat_name

GOLDEN = Path(__file__).parents[1] / "golden"
LAYER = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.fixture(scope="module")
def names() -> dict[str, list[str]]:
    lists: dict[str, list[str]] = json.loads(gzip.decompress((GOLDEN / "names.json.gz").read_bytes()))
    return lists


def test_every_layer_of_stable_diffusion_goes_there_and_back(names: dict[str, list[str]]) -> None:
    for name in names["sd"]:
        flat = f"lora_unet_{name.replace('.', '_')}"
        assert canonical_name(flat) == f"unet.{name}"
        assert flat_name(f"unet.{name}", Family.SD) == flat


def test_the_layers_of_sdxl_as_kohya_calls_them_are_those_of_diffusers(names: dict[str, list[str]]) -> None:
    found = {canonical_name(f"lora_unet_{flat}"): f"lora_unet_{flat}" for flat in names["sdxl-kohya"]}
    assert found.keys() == {f"unet.{name}" for name in names["sdxl"]}
    for name, flat in found.items():
        assert name and flat_name(name, Family.SDXL) == flat


def test_every_layer_of_flux_goes_there_and_back(names: dict[str, list[str]]) -> None:
    for flat in names["flux-kohya"]:
        name = canonical_name(f"lora_unet_{flat}")
        assert name and name.startswith("transformer.") and flat_name(name, Family.FLUX) == f"lora_unet_{flat}"
    assert len({canonical_name(f"lora_unet_{flat}") for flat in names["flux-kohya"]}) == len(names["flux-kohya"])


@pytest.mark.parametrize(
    ("flat", "name", "family"),
    [
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", "text_encoder.text_model.encoder.layers.3.mlp.fc1", Family.SD),
        (
            "lora_te2_text_model_encoder_layers_31_self_attn_q_proj",
            "text_encoder_2.text_model.encoder.layers.31.self_attn.q_proj",
            Family.SDXL,
        ),
        (
            "lora_te3_encoder_block_0_layer_1_DenseReluDense_wi_0",
            "text_encoder_2.encoder.block.0.layer.1.DenseReluDense.wi_0",
            Family.FLUX,
        ),
    ],
)
def test_text_encoders_have_their_own_prefixes(flat: str, name: str, family: Family) -> None:
    assert canonical_name(flat) == name
    assert flat_name(name, family) == flat


def test_a_clip_of_transformers_5_is_the_same_text_encoder() -> None:
    """Trainers on transformers 5, whose CLIP has no `text_model` any more, leave it out of the keys."""
    flat = "lora_te1_encoder_layers_3_mlp_fc1"
    assert canonical_name(flat) == canonical_name("lora_te1_text_model_encoder_layers_3_mlp_fc1")


@pytest.mark.parametrize("flat", ["lora_unet_nothing_0", "lora_unet_", "lora_te_mid_block_attentions_0", "other_x"])
def test_a_key_of_no_layer_is_none(flat: str) -> None:
    assert canonical_name(flat) is None


def write(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> Path:
    save_file(tensors, path, metadata=metadata or None)
    return path


def lora(layer: str = LAYER, rank: int = 2, alpha: float | None = 3.0) -> dict[str, torch.Tensor]:
    tensors = {f"{layer}.lora_down.weight": torch.ones(rank, 6), f"{layer}.lora_up.weight": torch.ones(8, rank)}
    return tensors if alpha is None else {**tensors, f"{layer}.alpha": torch.tensor(alpha)}


def read(path: Path) -> AdapterSpec:
    return read_path(path).spec


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_alpha_is_read_from_its_tensor_in_any_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: tensor.to(dtype) for name, tensor in lora(alpha=3.0).items()}
    (module,) = read(write(tmp_path / "a.safetensors", tensors)).modules
    assert (module.name, module.rank, module.alpha, module.scaling) == (
        "unet.mid_block.attentions.0.proj_in",
        2,
        3.0,
        1.5,
    )


def test_a_missing_alpha_means_scaling_one(tmp_path: Path) -> None:
    (module,) = read(write(tmp_path / "a.safetensors", lora(alpha=None))).modules
    assert (module.alpha, module.scaling) == (2.0, 1.0)


def test_the_metadata_is_kept_and_names_the_base(tmp_path: Path) -> None:
    spec = read(write(tmp_path / "a.safetensors", lora(), ss_sd_model_name="v1-5.safetensors", ss_network_dim="99"))
    assert (spec.summary.format, spec.summary.rank, spec.summary.base_name) == ("kohya", 2, "v1-5.safetensors")
    assert spec.config["ss_network_dim"] == "99"
    other = read(write(tmp_path / "b.safetensors", lora(), **{"modelspec.architecture": "flux-1-dev/lora"}))
    assert other.summary.base_name == "flux-1-dev/lora"


def test_a_convolution_keeps_its_kernel(tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_resnets_0_conv1"
    tensors = {
        f"{layer}.lora_down.weight": torch.ones(2, 6, 3, 3),
        f"{layer}.lora_up.weight": torch.ones(8, 2, 1, 1),
    }
    (module,) = read(write(tmp_path / "a.safetensors", tensors)).modules
    assert (module.kind, module.base_shape, module.variants) == ("conv", (8, 6, 3, 3), ("conv",))


def test_dora_is_named(tmp_path: Path) -> None:
    tensors = {**lora(), f"{LAYER}.dora_scale": torch.ones(8, 1)}
    assert read(write(tmp_path / "a.safetensors", tensors)).summary.variants == ("dora",)


REFUSALS: dict[str, tuple[dict[str, torch.Tensor], type[AdaptersError], str]] = {
    "an unknown suffix": ({f"{LAYER}.lora_middle": torch.ones(1)}, InvalidAdapter, f"{LAYER}.lora_middle"),
    "an unknown layer": ({"lora_unet_foo_bar.lora_up.weight": torch.ones(1)}, InvalidAdapter, "lora_unet_foo_bar"),
    "no known names": ({"blocks.0.lora_up": torch.ones(1)}, InvalidAdapter, "blocks.0.lora_up"),
    "a generic wrapper's": ({"lycoris_layer_0.alpha": torch.ones(1)}, InvalidAdapter, "lycoris_layer_0"),
    "a missing factor": (
        {f"{LAYER}.lora_up.weight": torch.ones(8, 2)},
        InvalidAdapter,
        "the down factor of this layer is missing",
    ),
    "other ranks": ({**lora(), f"{LAYER}.lora_up.weight": torch.ones(8, 3)}, RankMismatch, "rank 3"),
    "an alpha of two numbers": ({**lora(), f"{LAYER}.alpha": torch.ones(2)}, InvalidAdapter, f"{LAYER}.alpha"),
    "an alpha that is NaN": ({**lora(), f"{LAYER}.alpha": torch.tensor(torch.nan)}, InvalidAdapter, "NaN"),
    "a huge alpha": ({**lora(), f"{LAYER}.alpha": torch.tensor(1e30)}, InvalidAdapter, f"{LAYER}.alpha"),
    "whole-number factors": (
        {f"{LAYER}.lora_down.weight": torch.ones(2, 6, dtype=torch.int32), f"{LAYER}.lora_up.weight": torch.ones(8, 2)},
        InvalidAdapter,
        "I32",
    ),
    "a full difference": ({f"{LAYER}.diff": torch.ones(8, 6)}, UnsupportedAdapter, "a full difference (diff)"),
    "a bias difference": ({**lora(), f"{LAYER}.diff_b": torch.ones(8)}, UnsupportedAdapter, "diff_b"),
    "a core between matrices": (
        {**lora(), f"{LAYER}.lora_mid.weight": torch.ones(2, 2, 3, 3)},
        InvalidAdapter,
        "lora_mid.weight: its shape is [2, 2, 3, 3]",
    ),
    "PEFT without its configuration": (
        {"base_model.model.q.lora_A.weight": torch.ones(1)},
        InvalidAdapter,
        "adapter_config.json is missing",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_understood_is_refused_naming_the_tensor(case: str, tmp_path: Path) -> None:
    tensors, error, text = REFUSALS[case]
    with pytest.raises(error) as refusal:
        read(write(tmp_path / "a.safetensors", tensors))
    assert text in refusal.value.message


def test_one_layer_under_two_names_is_refused(tmp_path: Path) -> None:
    stability = "lora_unet_middle_block_1_proj_in"  # what SDXL calls the same layer
    with pytest.raises(InvalidAdapter, match="says the same as"):
        read(write(tmp_path / "a.safetensors", {**lora(LAYER), **lora(stability)}))
