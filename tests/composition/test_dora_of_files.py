"""DoRA in files of LyCORIS and diffusers: given the base, what LyCORIS and PEFT compute, blended and merged."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.jobs import blend
from composition.low_rank import LowRank
from composition.merge_job import merge
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.formats.folder import read_path
from tests.composition.cases import Dense, assert_close
from tests.composition.models import NAME, World, read_tensors, world

LINEAR, CONV = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q", "down_blocks.0.resnets.0.conv1"
SHAPES = {LINEAR: (8, 6), CONV: (5, 4, 3, 3)}
RANK, ALPHA = 2, 3.0


def numbers(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


BASE = {f"{name}.weight": numbers(1, *shape) for name, shape in SHAPES.items()}


def directions() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A and B of each layer {name: (A, B)}, matrices."""
    return {
        name: (numbers(2, RANK, BASE[f"{name}.weight"][0].numel()), numbers(3, shape[0], RANK))
        for name, shape in SHAPES.items()
    }


def of_lycoris(path: Path, *, inward: bool) -> Path:
    """As LyCORIS saves it, with or without wd_on_output; magnitudes of all sorts."""
    tensors = {}
    for name, (a, b) in directions().items():
        flat = f"lora_unet_{name.replace('.', '_')}"
        out, inside, *kernel = SHAPES[name]
        ones = [1 for _ in kernel]
        tensors[f"{flat}.lora_down.weight"] = a.reshape(RANK, inside, *kernel)
        tensors[f"{flat}.lora_up.weight"] = b.reshape(out, RANK, *ones)
        tensors[f"{flat}.alpha"] = torch.tensor(ALPHA)
        sides = (1, inside, *ones) if inward else (out, 1, *ones)
        tensors[f"{flat}.dora_scale"] = 1 + numbers(4, *sides).abs()
    return saved(path, tensors)


def of_diffusers(path: Path) -> Path:
    """As diffusers saves what PEFT trained: a convolution's magnitudes are (1, out, 1, 1)."""
    tensors = {}
    for name, (a, b) in directions().items():
        out, inside, *kernel = SHAPES[name]
        ones = [1 for _ in kernel]
        tensors[f"unet.{name}.lora_A.weight"] = a.reshape(RANK, inside, *kernel)
        tensors[f"unet.{name}.lora_B.weight"] = b.reshape(out, RANK, *ones)
        tensors[f"unet.{name}.lora_magnitude_vector"] = 1 + numbers(4, *((1, out, *ones) if kernel else (out,))).abs()
    return saved(path, tensors)


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.mkdir()
    save_file(tensors, path / "dora.safetensors", {"ss_sd_model_name": NAME})
    return path


def peers_delta(weight: torch.Tensor, delta: torch.Tensor, magnitude: torch.Tensor, *, inward: bool) -> torch.Tensor:
    """What LyCORIS adds, in its own words (functional/general.py, _weight_decompose), in float64."""
    moved = weight.double() + delta.reshape(weight.shape)
    if not inward:
        norm = moved.reshape(moved.shape[0], -1).norm(dim=1).reshape(moved.shape[0], *[1] * (moved.dim() - 1))
        return moved * (magnitude.double().reshape(norm.shape) / norm) - weight
    norm = moved.transpose(0, 1).reshape(moved.shape[1], -1).norm(dim=1, keepdim=True)
    norm = norm.reshape(moved.shape[1], *[1] * (moved.dim() - 1)).transpose(0, 1)
    return moved * (magnitude.double() / norm) - weight


def expected(folder: Path, *, inward: bool) -> Dense:
    magnitudes = [t for name, t in load_file(folder / "dora.safetensors").items() if "dora" in name or "magn" in name]
    by_size = {tensor.numel(): tensor for tensor in magnitudes}
    scaling = 1.0 if "diffusers" in folder.name else ALPHA / RANK
    return {
        f"{name}.weight": peers_delta(
            BASE[f"{name}.weight"],
            scaling * (b.double() @ a.double()),
            by_size[SHAPES[name][1 if inward else 0]],
            inward=inward,
        )
        for name, (a, b) in directions().items()
    }


@pytest.fixture
def made(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield stack.enter_context(world(tmp_path, BASE, shards=1))


CASES: dict[str, tuple[Callable[[Path], Path], bool]] = {
    "outputs": (lambda path: of_lycoris(path, inward=False), False),
    "inputs": (lambda path: of_lycoris(path, inward=True), True),
    "diffusers": (of_diffusers, False),
}


@pytest.mark.parametrize("case", CASES)
def test_given_the_base_it_is_merged_and_blended_as_its_trainer_computes_it(made: World, case: str) -> None:
    write, inward = CASES[case]
    folder = write(made.root / case)
    wanted = expected(folder, inward=inward)
    made.push("t/dora", folder)
    merge(made.registry, parse("t/dora"), base=made.base, out=made.root / "out", device="cpu")
    after = read_tensors(made.root / "out")
    assert_close({name: after[name].double() - BASE[name] for name in BASE}, wanted, 1e-6)
    recipe = parse("t/dora").with_rank(64)
    result = blend(made.registry, recipe, AdapterName.parse("t/plain"), device="cpu", base=made.base)
    assert result.version is not None and result.recipe.base is not None
    pulled = made.registry.pull(result.version, made.root / "pulled").folder
    factors = load_file(pulled / "pytorch_lora_weights.safetensors")
    found = {
        name.replace("unet.", "").replace("lora_A.weight", "weight"): LowRank(
            a.flatten(1), factors[name.replace("lora_A", "lora_B")].flatten(1)
        )
        .dense()
        .reshape(SHAPES[name.removeprefix("unet.").removesuffix(".lora_A.weight")])
        for name, a in factors.items()
        if name.endswith("lora_A.weight")
    }
    assert_close(found, wanted, 1e-5)


def test_without_the_base_it_is_refused_and_conversion_says_why(made: World) -> None:
    folder = of_lycoris(made.root / "dora", inward=False)
    made.push("t/dora", folder)
    with pytest.raises(UnsupportedAdapter, match=r"dora.*--base DIR"):
        blend(made.registry, parse("t/dora"), AdapterName.parse("t/plain"), device="cpu")


@pytest.mark.parametrize("shape", [(3, 1), (1, 8), (8, 2)])
def test_magnitudes_of_neither_side_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = of_lycoris(tmp_path / "a", inward=False)
    tensors = load_file(folder / "dora.safetensors")
    name = f"lora_unet_{LINEAR.replace('.', '_')}.dora_scale"
    save_file({**tensors, name: torch.ones(shape)}, folder / "dora.safetensors")
    with pytest.raises(InvalidAdapter, match=r"dora_scale.*8 outputs or 6 inputs"):
        read_path(folder)
