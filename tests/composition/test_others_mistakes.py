"""What other tools get wrong when they combine adapters, beside what we compute from the same inputs.

Here are those of mergekit, of kohya's scripts and of experts. Others stand where their subject is: PEFT's cross terms
and its inherited rsLoRA in test_peft, its TIES in test_methods_peft, biases that it leaves out in test_kinds, bases
that were changed in test_beginnings, diffusers' dropped keys (here refused) in tests/formats/test_kohya.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.engine import compose
from composition.files import save_composition
from composition.low_rank import LowRank
from composition.single_file import load_modules
from registry.domain.records import FileEntry
from registry.formats.folder import read_path
from tests.composition.cases import by_digest, dense, digest, load, pin, random_adapter
from tests.composition.kinds import deltas, save_trained, weighted

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def off(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.double() - wanted).norm() / wanted.norm())


def test_the_sum_is_of_deltas_and_not_of_what_a_rounded_merge_left_of_them() -> None:
    """mergekit's `model+lora` takes its task vectors from bf16(W + ΔW) - W."""
    inputs = by_digest(a=random_adapter("a"), b=random_adapter("b"))
    modules = {name: [inputs[digest(name)].modules[0].delta.dense() for name in "ab"] for name in ("layers.0.q",)}
    wanted = torch.stack(modules["layers.0.q"]).sum(0)
    weight = 30 * torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0)).bfloat16().double()
    theirs = sum((weight + delta).bfloat16().double() - weight for delta in modules["layers.0.q"])
    assert isinstance(theirs, torch.Tensor)
    assert off(theirs, wanted) > 0.01
    assert off(dense(compose(pin("t/a + t/b"), inputs, device="cpu"))["layers.0.q"], wanted) < 1e-6


def kohya(folder: Path, seed: int, *, alpha: float | None) -> tuple[LowRank, torch.Tensor, torch.Tensor]:
    """A file of one layer: its delta as we read it, and A and B as they are in it."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(4, 8, generator=generator), torch.randn(6, 4, generator=generator)
    stated = {} if alpha is None else {f"{LAYER}.alpha": torch.tensor(alpha)}
    path = folder / f"{seed}.safetensors"
    save_file({f"{LAYER}.lora_down.weight": a, f"{LAYER}.lora_up.weight": b, **stated}, path)
    file = FileEntry(path.name, "", path.stat().st_size)
    with path.open("rb") as stream:
        (module,) = load_modules(stream, read_path(path).spec, subject="t/a@v1", file=file, base=None)
    return module.delta, a.double(), b.double()


def test_a_weight_counts_once_and_not_squared(tmp_path: Path) -> None:
    """kohya's merge_lora.py multiplies both factors by the ratio."""
    delta, a, b = kohya(tmp_path, 1, alpha=4.0)
    assert off((0.7 * b) @ (0.7 * a), 0.7 * (b @ a)) > 0.25
    assert off(delta.scaled(0.7).dense(), 0.7 * (b @ a)) < 1e-6


def test_ranks_that_are_concatenated_keep_their_scaling(tmp_path: Path) -> None:
    """Its `--concat` doubles the rank below an alpha that stays: half of the sum."""
    (one, a, b), (other, c, d) = (kohya(tmp_path, seed, alpha=4.0) for seed in (1, 2))
    wanted = b @ a + d @ c
    theirs = 4.0 / 8 * (torch.cat((b, d), dim=1) @ torch.cat((a, c)))
    assert off(theirs, wanted) == pytest.approx(0.5)
    assert off((one + other).dense(), wanted) < 1e-6


def test_a_missing_alpha_means_a_scaling_of_one(tmp_path: Path) -> None:
    delta, a, b = kohya(tmp_path, 3, alpha=None)
    assert off(delta.dense(), b @ a) < 1e-6


def test_experts_are_not_concatenated_as_they_are_stored(tmp_path: Path) -> None:
    """A is stored expert by expert, B rank by rank: concatenated so, each expert gets factors of another one."""
    config = {"target_modules": [], "target_parameters": ["experts.down_proj"], "lora_alpha": 2, "r": 2}
    folders = {name: save_trained(tmp_path / name, seed, **config) for seed, name in enumerate("ab")}
    inputs = by_digest(a=load(folders["a"]), b=load(folders["b"]))
    wanted = weighted(folders, {"a": 1, "b": 1})["experts.down_proj"]
    stored = [load_factors(folder) for folder in folders.values()]
    naive_a, naive_b = torch.cat([a for a, _ in stored]), torch.cat([b for _, b in stored], dim=1)
    theirs = torch.stack([naive_b.reshape(-1, 4, 3)[:, :, e] @ naive_a.reshape(3, 4, -1)[e] for e in range(3)])
    assert off(theirs, wanted) > 0.9
    (tmp_path / "out").mkdir()
    save_composition(compose(pin("t/a + t/b"), inputs, device="cpu"), tmp_path / "out")
    assert off(deltas(tmp_path / "out")["experts.down_proj"], wanted) < 1e-6


def load_factors(folder: Path) -> tuple[torch.Tensor, torch.Tensor]:
    tensors = load_file(folder / "adapter_model.safetensors")
    a, b = (next(t.double() for name, t in tensors.items() if f"lora_{side}" in name) for side in "AB")
    return a, b
