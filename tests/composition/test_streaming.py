"""Composing into a folder gives the files of composing first and saving then, and holds no more than a few modules."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import compose
from composition.files import CONFIG_NAME, WEIGHTS_NAME, save_composition
from composition.low_rank import LowRank
from composition.schedule import in_pool
from composition.streaming import compose_into
from registry.domain.errors import UnsupportedAdapter
from registry.formats.peft import read_folder
from tests.composition.cases import SUMMARY, by_digest, pin, random_adapter

SHAPES = {"layers.0.down": (90, 200), "layers.0.up": (200, 90), "layers.1.down": (90, 200)}


def stored(seed: int, rank: int = 4, dtype: torch.dtype = torch.bfloat16) -> LoadedAdapter:
    """An adapter as it lies in a file of half precision, large enough for the sums of stored factors."""
    generator = torch.Generator().manual_seed(seed)
    modules = []
    for name, (out, inside) in SHAPES.items():
        a, b = torch.randn(rank, inside, generator=generator), torch.randn(out, rank, generator=generator)
        modules.append(LoadedModule(name, None, LowRank((a / 9).to(dtype), b.to(dtype), 2.0)))
    return LoadedAdapter(f"t/{seed}@v1", SUMMARY, tuple(modules))


HALF = by_digest(a=stored(1), b=stored(2, rank=3), twin=stored(1))
MIXED = by_digest(a=random_adapter("a"), b=random_adapter("b", rank=2, modules=("layers.1.q",)))


def streamed(folder: Path, text: str, inputs: dict[str, LoadedAdapter], dtype: str, **options: int) -> Path:
    folder.mkdir()
    compose_into(folder, pin(text, dtype), inputs, device="cpu", durable=True, **options)
    return folder


@pytest.mark.parametrize("inputs", [HALF, MIXED], ids=["half", "float32"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("text", ["t/a + 0.7*t/b", "truncate(t/a - t/b, rank=2)", "ties(t/a, t/b, density=0.5)"])
def test_the_bytes_are_those_of_composing_first_and_saving_then(
    tmp_path: Path, text: str, dtype: str, inputs: dict[str, LoadedAdapter]
) -> None:
    (tmp_path / "whole").mkdir()
    save_composition(compose(pin(text, dtype), inputs, device="cpu"), tmp_path / "whole")
    for workers in (1, 3):
        found = streamed(tmp_path / str(workers), text, inputs, dtype, workers=workers)
        for name in (CONFIG_NAME, WEIGHTS_NAME):
            assert (found / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("text", ["truncate(t/a + t/b, energy=0.8)", "truncate(t/a - t/twin + 0.5*t/b, rank=9)"])
def test_ranks_that_only_the_numbers_tell_give_a_right_header_at_the_end(tmp_path: Path, text: str) -> None:
    result = compose(pin(text, "bfloat16"), HALF, device="cpu")
    folder = streamed(tmp_path / "out", text, HALF, "bfloat16")
    found = load_file(folder / WEIGHTS_NAME)
    assert len(found) == 2 * len(result.modules)
    for module in result.modules:
        for side, factor in (("A", module.delta.A), ("B", module.delta.B)):
            assert torch.equal(found[f"base_model.model.{module.name}.lora_{side}.weight"], factor)
    ranks = {module.name: module.rank for module in read_folder(folder).modules}
    assert ranks == {module.name: module.delta.rank for module in result.modules}
    assert max(ranks.values()) < 7  # or the header would be as it was expected


def test_a_module_that_cancels_is_left_out(tmp_path: Path) -> None:
    text = "truncate(t/a - t/twin, rank=2)"
    twin = stored(1)
    inputs = by_digest(a=stored(1), twin=replace(twin, modules=twin.modules[:2]))
    folder = streamed(tmp_path / "out", text, inputs, "bfloat16")
    assert [module.name for module in read_folder(folder).modules] == ["layers.1.down"]
    assert json.loads((folder / CONFIG_NAME).read_text())["r"] == 2
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        streamed(tmp_path / "nothing", text, by_digest(a=stored(1), twin=twin), "bfloat16")


def test_results_that_nobody_takes_are_not_computed_ahead_of_time() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    results = in_pool(work, range(1000), 2)
    assert [next(results), next(results)] == [0, 1]
    del results  # its pool ends here
    assert len(begun) < 20
