"""LoHa and LoKr layers by their shapes, from files that LyCORIS itself wrote; what isn't exact is refused by name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from registry.domain.errors import AdaptersError, InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.formats.folder import read_path

GOLDEN = Path(__file__).parents[1] / "golden"
LAYER = "lora_unet_mid_block_attentions_0_proj_in"


@pytest.mark.parametrize(
    ("algorithm", "kinds", "peft_type"),
    [("loha", {"loha"}, "LOHA"), ("lokr", {"lokr"}, "LOKR"), ("lora", {"linear", "conv"}, "LORA")],
)
def test_what_lycoris_wrote_is_read_whole(algorithm: str, kinds: set[str], peft_type: str) -> None:
    path = GOLDEN / f"lycoris-{algorithm}.safetensors"
    spec = read_path(path).spec
    assert {module.kind for module in spec.modules} == kinds
    assert spec.summary.peft_type == peft_type
    assert sorted(name for m in spec.modules for name in m.tensors.values()) == sorted(load_file(path))


@pytest.mark.parametrize("algorithm", ["loha", "lokr", "lora"])
def test_the_shape_that_is_adapted_is_the_bases(algorithm: str) -> None:
    spec = read_path(GOLDEN / f"lycoris-{algorithm}.safetensors").spec
    shapes = {
        name: tensor.shape for name, tensor in load_file(GOLDEN / f"lycoris-{algorithm}.deltas.safetensors").items()
    }
    assert {module.name: module.base_shape for module in spec.modules} == {
        name.removesuffix(".weight"): shape for name, shape in shapes.items()
    }


def ones(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {f"{LAYER}.{role}": torch.ones(*shape) for role, shape in shapes.items()}


LOHA = {"hada_w1_a": (8, 2), "hada_w1_b": (2, 6), "hada_w2_a": (8, 2), "hada_w2_b": (2, 6)}
CORES = {**LOHA, "hada_w1_a": (2, 8), "hada_w2_a": (2, 8), "hada_t1": (2, 2, 3, 3), "hada_t2": (2, 2, 3, 3)}
REFUSALS: dict[str, tuple[dict[str, torch.Tensor], type[AdaptersError], str]] = {
    "a core of another rank": (ones(**{**CORES, "hada_t1": (3, 2, 3, 3)}), InvalidAdapter, "hada_t1"),
    "a core in one of two": (ones(**LOHA, hada_t1=(2, 2, 3, 3)), RankMismatch, "hada_w1_a"),
    "a core beside a whole": (ones(lokr_w1=(2, 2), lokr_w2=(4, 3), lokr_t2=(2, 2, 3, 3)), InvalidAdapter, "lokr_t2"),
    "a core in w1": (ones(lokr_w1=(2, 2), lokr_t1=(2, 2, 3, 3)), UnsupportedAdapter, "lokr_t1"),
    "a part missing": (ones(**{k: v for k, v in LOHA.items() if k != "hada_w2_a"}), InvalidAdapter, "hada_w2_a"),
    "other ranks": (ones(**{**LOHA, "hada_w2_a": (8, 3)}), RankMismatch, "hada_w2_a"),
    "other shapes": (ones(**{**LOHA, "hada_w2_b": (2, 7)}), InvalidAdapter, "the two products"),
    "two kinds": (ones(**LOHA, lokr_w1=(2, 2)), InvalidAdapter, "two kinds"),
    "LoRA besides": ({**ones(**LOHA), f"{LAYER}.lora_up.weight": torch.ones(8, 2)}, InvalidAdapter, "two kinds"),
    "w1 whole and not": (ones(lokr_w1=(2, 2), lokr_w1_a=(2, 1), lokr_w2=(4, 3)), InvalidAdapter, "says the same"),
    "w2 missing": (ones(lokr_w1=(2, 2)), InvalidAdapter, "lokr_w2_a"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_does_not_fit_together_is_refused_by_name(case: str, tmp_path: Path) -> None:
    tensors, error, text = REFUSALS[case]
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(error) as refusal:
        read_path(tmp_path / "a.safetensors")
    assert text in refusal.value.message


def test_a_whole_lokr_has_no_rank_and_ignores_its_alpha(tmp_path: Path) -> None:
    tensors = {**ones(lokr_w1=(2, 2), lokr_w2=(4, 3)), f"{LAYER}.alpha": torch.tensor(9.0)}
    save_file(tensors, tmp_path / "a.safetensors")
    (module,) = read_path(tmp_path / "a.safetensors").spec.modules
    assert (module.rank, module.scaling, module.base_shape) == (0, 1.0, (8, 6, 1, 1))
