"""diffusers' files in every form that it wrote; a scaling is the alpha's, the metadata's, or 1."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.domain.errors import AdaptersError, InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.spec import AdapterSpec
from registry.formats.folder import read_path

GOLDEN = Path(__file__).parents[1] / "golden"
BLOCK = "unet.mid_block.attentions.0.transformer_blocks.0.attn1"
ENCODER = "text_encoder.text_model.encoder.layers.0.self_attn"


def read(path: Path, tensors: dict[str, torch.Tensor], **metadata: str) -> AdapterSpec:
    save_file(tensors, path / "a.safetensors", metadata=metadata or None)
    return read_path(path / "a.safetensors").spec


def pair(down: str, up: str) -> dict[str, torch.Tensor]:
    return {down: torch.ones(2, 6), up: torch.ones(8, 2)}


FORMS = {
    "peft": (pair(f"{BLOCK}.to_q.lora_A.weight", f"{BLOCK}.to_q.lora_B.weight"), f"{BLOCK}.to_q"),
    "down and up": (pair(f"{BLOCK}.to_q.lora.down.weight", f"{BLOCK}.to_q.lora.up.weight"), f"{BLOCK}.to_q"),
    "processor": (
        pair(f"{BLOCK}.processor.to_out_lora.down.weight", f"{BLOCK}.processor.to_out_lora.up.weight"),
        f"{BLOCK}.to_out.0",
    ),
    "attention processors alone": (
        pair(
            f"{BLOCK.removeprefix('unet.')}.processor.to_k_lora.down.weight",
            f"{BLOCK.removeprefix('unet.')}.processor.to_k_lora.up.weight",
        ),
        f"{BLOCK}.to_k",
    ),
    "linear layer": (
        pair(f"{ENCODER}.q_proj.lora_linear_layer.down.weight", f"{ENCODER}.q_proj.lora_linear_layer.up.weight"),
        f"{ENCODER}.q_proj",
    ),
    "old text encoder": (
        pair(f"{ENCODER}.to_out_lora.down.weight", f"{ENCODER}.to_out_lora.up.weight"),
        f"{ENCODER}.out_proj",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_that_was_ever_written_is_read(form: str, tmp_path: Path) -> None:
    tensors, name = FORMS[form]
    spec = read(tmp_path, tensors)
    (module,) = spec.modules
    assert (spec.summary.format, module.name, module.rank, module.scaling) == ("diffusers", name, 2, 1.0)


@pytest.mark.parametrize(
    "suffix", ["to_q.alpha", "processor.to_q_lora.down.weight.alpha", "to_q.lora.down.weight.alpha"]
)
def test_an_alpha_among_the_tensors_is_the_layers(suffix: str, tmp_path: Path) -> None:
    tensors = {**FORMS["peft"][0], f"{BLOCK}.{suffix}": torch.tensor(5.0)}
    (module,) = read(tmp_path, tensors).modules
    assert (module.alpha, module.scaling) == (5.0, 2.5)


def test_the_metadata_that_diffusers_wrote_gives_the_scaling() -> None:
    spec = read_path(GOLDEN / "diffusers.safetensors").spec
    found = {(m.name.partition(".")[0], m.name.rpartition(".")[2], m.rank): m.alpha for m in spec.modules}
    assert found == {
        ("unet", "to_q", 2): 3.0,
        ("unet", "to_v", 2): 5.0,
        ("unet", "proj_in", 2): 3.0,
        ("unet", "conv1", 3): 3.0,
        ("text_encoder", "q_proj", 2): 4.0,
        ("text_encoder", "fc1", 2): 4.0,
    }
    names = [name for module in spec.modules for name in module.tensors.values()]
    assert sorted(names) == sorted(load_file(GOLDEN / "diffusers.safetensors"))


def metadata(**settings: object) -> dict[str, str]:
    document = {"unet.r": 2, "unet.lora_alpha": 4, **{f"unet.{key}": value for key, value in settings.items()}}
    return {"lora_adapter_metadata": json.dumps(document)}


def test_rslora_in_the_metadata_counts(tmp_path: Path) -> None:
    (module,) = read(tmp_path, FORMS["peft"][0], **metadata(use_rslora=True)).modules
    assert module.scaling == pytest.approx(4 / 2**0.5)


REFUSALS: dict[str, tuple[dict[str, torch.Tensor], dict[str, str], type[AdaptersError], str]] = {
    "an unknown suffix": ({f"{BLOCK}.to_q.lora_C": torch.ones(1)}, {}, InvalidAdapter, "lora_C"),
    "a whole weight": ({"unet.conv_in.weight": torch.ones(1)}, {}, InvalidAdapter, "unet.conv_in.weight"),
    "no layer": (pair("unet.lora_A.weight", "unet.lora_B.weight"), {}, InvalidAdapter, "it names no layer"),
    "another rank": (FORMS["peft"][0], metadata(r=3), RankMismatch, "rank 2"),
    "another method": (FORMS["peft"][0], metadata(init_lora_weights="pissa"), UnsupportedAdapter, "pissa"),
    "a strange component": (
        FORMS["peft"][0],
        {"lora_adapter_metadata": '{"vae.r": 3}'},
        InvalidAdapter,
        "vae.r",
    ),
    "a layer twice": (
        {**FORMS["peft"][0], **FORMS["down and up"][0]},
        {},
        InvalidAdapter,
        "says the same as",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_understood_is_refused_by_name(case: str, tmp_path: Path) -> None:
    tensors, noted, error, text = REFUSALS[case]
    with pytest.raises(error) as refusal:
        read(tmp_path, tensors, **noted)
    assert text in refusal.value.message
