"""The `peft` presets against PEFT itself, on its own layers: what its *_svd merges compute, we compute."""

import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from composition.low_rank import LowRank
from composition.methods.method import Input
from composition.sparsify import uniform
from tests.composition.method_cases import call, distance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import LoraConfig, get_peft_model
    from peft.utils import merge_utils

OUT, IN, RANK, ALPHA = 24, 20, 4, 6
WEIGHTS = [(1.0, 1.0), (0.7, 0.4), (1.0, -0.5)]


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(3)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"])
    made = get_peft_model(nn.Sequential(nn.Linear(IN, OUT, bias=False)), config, adapter_name="x")
    made.add_adapter("y", config)
    for name in "xy":
        nn.init.normal_(layer(made).lora_B[name].weight)
    return made


def layer(model: Any) -> Any:
    return model.base_model.model[0]


def given(model: Any, weights: tuple[float, ...]) -> list[Input]:
    found = layer(model)
    return [
        Input(
            weight,
            LowRank(found.lora_A[name].weight.detach(), found.lora_B[name].weight.detach(), ALPHA / RANK),
            ord(name),
        )
        for name, weight in zip("xy", weights, strict=True)
    ]


def by_peft(model: Any, kind: str, weights: tuple[float, ...], **options: Any) -> torch.Tensor:
    """Its merge, in full rank, read before its configuration scales it again."""
    target = layer(model)
    a, b = model.base_model._svd_generalized_task_arithmetic_weighted_adapter(
        kind,
        ["x", "y"],
        list(weights),
        min(OUT, IN),
        target,
        target.lora_A["x"].weight,
        target.lora_B["x"].weight,
        0.6,
        options.get("sign", "total"),
    )
    return (b @ a).double().detach()


@pytest.fixture
def same_masks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives PEFT, which draws from the global generator, the masks that our streams give, input by input."""
    streams = iter("xy")

    def prune(tensor: torch.Tensor, density: float, rescale: bool) -> torch.Tensor:
        numbers = uniform(ord(next(streams)), 5, start=0, shape=(OUT, IN), device=tensor.device)
        kept = tensor * (numbers < density)
        return kept / density if rescale else kept

    monkeypatch.setattr(merge_utils, "random_pruning", prune)
    yield


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("sign", ["total", "frequency"])
def test_ties_with_the_preset_is_ties_svd(model: Any, weights: tuple[float, ...], sign: str) -> None:
    found = call("ties", given(model, weights), density=0.6, sign=sign, preset="peft", rank=min(OUT, IN))
    assert distance(found.delta.dense(), by_peft(model, "ties_svd", weights, sign=sign)) < 1e-5


@pytest.mark.parametrize("weights", WEIGHTS)
def test_magnitude_with_the_preset_is_magnitude_prune_svd(model: Any, weights: tuple[float, ...]) -> None:
    found = call("magnitude", given(model, weights), density=0.6, preset="peft", rank=min(OUT, IN))
    assert distance(found.delta.dense(), by_peft(model, "magnitude_prune_svd", weights)) < 1e-5


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("name", ["dare_linear", "dare_ties"])
@pytest.mark.usefixtures("same_masks")
def test_dare_with_the_preset_is_dare_svd_given_the_masks(model: Any, name: str, weights: tuple[float, ...]) -> None:
    found = call(name, given(model, weights), drop=0.4, seed=5, preset="peft", rank=min(OUT, IN))
    assert distance(found.delta.dense(), by_peft(model, f"{name}_svd", weights)) < 1e-5


@pytest.mark.parametrize("rank", [2, 5])
def test_the_truncation_to_a_rank_agrees_too(model: Any, rank: int) -> None:
    found = call("ties", given(model, (1.0, 1.0)), density=0.6, preset="peft", rank=rank).delta.dense()
    left, values, right = torch.linalg.svd(by_peft(model, "ties_svd", (1.0, 1.0)), full_matrices=False)
    assert distance(found, left[:, :rank] * values[:rank] @ right[:rank]) < 1e-5


def test_by_default_ties_votes_with_the_weights_and_peft_does_not(model: Any) -> None:
    """With weights (1, -1), PEFT's isn't TIES of (a, -b), and depends on which sign an even vote falls to."""
    first, second = given(model, (1.0, -1.0))
    negated = [first, Input(1.0, LowRank(second.delta.A, -second.delta.B, ALPHA / RANK))]
    ours = call("ties", [first, second], density=0.6, rank=min(OUT, IN)).delta.dense()
    assert distance(ours, call("ties", negated, density=0.6, rank=min(OUT, IN)).delta.dense()) < 1e-6
    assert distance(by_peft(model, "ties_svd", (1.0, -1.0)), ours) > 0.3
