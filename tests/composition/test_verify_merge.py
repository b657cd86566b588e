"""verify-merge: healthy merges of every rounding match to the bit, and each planted mistake is found by name."""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from composition.engine import silent
from composition.verify_merge import FAULT, INCONCLUSIVE, MATCHES, Verdict, verify_merge
from registry.domain.errors import BaseMismatch
from tests.composition.models import DTYPES, SHAPES, Tensors, base_tensors, factors, write_base, write_lora
from tests.factories import EXAMPLES, minilm_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel
    from transformers import AutoModel

RANK, ALPHA = 4, 12.0
SCALING = ALPHA / RANK
Delta = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Add = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (b.float() @ a.float()) * SCALING


def once(base: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
    return (base.float() + delta.float()).to(base.dtype)


def merged(tensors: Tensors, delta: Delta = plain, add: Add = once, dtype: torch.dtype = torch.float32) -> Tensors:
    """The model that a tool would make which computes the delta and the sum in this way."""
    result = dict(tensors)
    for module, (a, b) in factors(1).items():
        name = f"model.{module}.weight"
        result[name] = add(tensors[name], delta(a.to(dtype), b.to(dtype)))
    return result


def verify(
    root: Path,
    tensors: Tensors,
    result: Tensors,
    *,
    dtype: torch.dtype = torch.float32,
    extra: Tensors | None = None,
    **config: object,
) -> Verdict:
    base, out = write_base(root / "base", tensors), write_base(root / "merged", result, shards=3)
    adapter = write_lora(root / "adapter", factors(1), dtype=dtype, extra=extra, **{"lora_alpha": ALPHA} | config)
    return verify_merge(out, base=base, adapter=adapter, progress=silent)


def only_fault(verdict: Verdict) -> str:
    assert verdict.verdict == FAULT
    (name,) = verdict.faults
    return name


@pytest.mark.parametrize("base", DTYPES)
@pytest.mark.parametrize("adapter", DTYPES)
def test_a_merge_with_one_rounding_matches(tmp_path: Path, base: str, adapter: str) -> None:
    tensors = base_tensors(DTYPES[base])
    verdict = verify(tmp_path, tensors, merged(tensors, dtype=DTYPES[adapter]), dtype=DTYPES[adapter])
    assert verdict.verdict == MATCHES
    assert {check.way for check in verdict.checks} == {"one rounding"}
    assert len(verdict.checks) == 2 * len(SHAPES)
    assert verdict.untouched == len(tensors) - 2 * len(SHAPES)


@pytest.mark.parametrize("order", ["reversed", "doubles"])
def test_the_order_of_a_sum_is_no_fault(tmp_path: Path, order: str) -> None:
    def delta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if order == "doubles":
            return (b.double() @ a.double() * SCALING).float()
        return sum((b[:, k : k + 1] * a[k : k + 1] for k in reversed(range(RANK))), torch.zeros(())) * SCALING

    tensors = base_tensors(torch.float32)
    assert verify(tmp_path, tensors, merged(tensors, delta)).verdict == MATCHES


@pytest.mark.parametrize("product", [False, True])
def test_a_delta_rounded_to_the_adapters_dtype_first_matches(tmp_path: Path, product: bool) -> None:
    def delta(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        whole = b.float() @ a.float()
        return (whole.bfloat16().float() * SCALING if product else whole * SCALING).bfloat16()

    tensors = base_tensors(torch.float32)
    verdict = verify(tmp_path, tensors, merged(tensors, delta, dtype=torch.bfloat16), dtype=torch.bfloat16)
    assert verdict.verdict == MATCHES
    assert all(check.way and "bfloat16" in check.way for check in verdict.checks)


def test_rounding_the_delta_to_the_bases_dtype_first_is_named_with_its_share(tmp_path: Path) -> None:
    tensors = base_tensors(torch.bfloat16)
    verdict = verify(tmp_path, tensors, merged(tensors, lambda a, b: plain(a, b).bfloat16()))
    assert only_fault(verdict) == "rounding_order"
    assert all(0.005 < check.mismatches / check.elements < 0.5 for check in verdict.checks)
    assert "% of the weights" in verdict.checks[0].text


FACTORS = {
    "sign_flipped": -1.0,
    "scaling_missing": 1 / SCALING,
    "scaling_doubled": SCALING,
    "applied_twice": 2.0,
    "rslora_assumed": RANK**0.5,
    "scaled": 1.37,
}


@pytest.mark.parametrize("base", DTYPES)
@pytest.mark.parametrize("fault", FACTORS)
def test_a_wrong_factor_is_named(tmp_path: Path, base: str, fault: str) -> None:
    tensors = base_tensors(DTYPES[base])
    verdict = verify(tmp_path, tensors, merged(tensors, lambda a, b: FACTORS[fault] * plain(a, b)))
    # At rank 4, the square root of the rank is 2 and can't be told from adding twice.
    assert only_fault(verdict) == ("applied_twice" if fault == "rslora_assumed" else fault)
    if fault == "rslora_assumed":
        assert "alpha/sqrt(r)" in verdict.checks[0].text
    factors_found = [check.factor for check in verdict.checks]
    assert factors_found == pytest.approx([FACTORS[fault]] * len(factors_found), rel=5e-3)


def test_rslora_merged_as_plain_lora_is_named(tmp_path: Path) -> None:
    tensors = base_tensors(torch.bfloat16)
    verdict = verify(tmp_path, tensors, merged(tensors), use_rslora=True)  # scaled by alpha/r
    assert only_fault(verdict) == "rslora_ignored"


def test_a_factor_of_a_thousandth_is_seen(tmp_path: Path) -> None:
    tensors = base_tensors(torch.float32)
    verdict = verify(tmp_path, tensors, merged(tensors, lambda a, b: 1.001 * plain(a, b)))
    assert only_fault(verdict) == "scaled"
    assert verdict.checks[0].factor == pytest.approx(1.001, abs=1e-4)


def test_a_delta_that_was_not_applied_is_named(tmp_path: Path) -> None:
    tensors = base_tensors()
    verdict = verify(tmp_path, tensors, tensors)
    assert verdict.faults == {"not_applied": 2 * len(SHAPES)}


def test_a_single_module_left_out_is_named(tmp_path: Path) -> None:
    tensors = base_tensors()
    result = merged(tensors)
    name = "model.layers.1.down_proj.weight"
    verdict = verify(tmp_path, tensors, result | {name: tensors[name]})
    assert verdict.faults == {"not_applied": 1}
    assert [check.tensor for check in verdict.checks if check.fault] == [name]


@pytest.mark.parametrize("base", DTYPES)
def test_a_transposed_delta_is_named(tmp_path: Path, base: str) -> None:
    tensors = base_tensors(DTYPES[base])
    result = merged(tensors)
    a, b = factors(1)["layers.0.v_proj"]
    name = "model.layers.0.v_proj.weight"
    result[name] = once(tensors[name], plain(a, b).T)
    verdict = verify(tmp_path, tensors, result)
    assert verdict.faults == {"transposed": 1}


@pytest.mark.parametrize("base", DTYPES)
def test_missing_ranks_are_named_and_counted(tmp_path: Path, base: str) -> None:
    tensors = base_tensors(DTYPES[base])
    verdict = verify(tmp_path, tensors, merged(tensors, lambda a, b: plain(a[:3], b[:, :3])))
    assert only_fault(verdict) == "partial_rank"
    assert "3 of the 4 ranks" in verdict.checks[0].text


def test_a_delta_that_flips_no_bit_is_named(tmp_path: Path) -> None:
    tensors = base_tensors(torch.bfloat16)
    verdict = verify(tmp_path, tensors, tensors, lora_alpha=1e-8)
    assert only_fault(verdict) == "underflow"


def test_nan_in_the_merged_weights_is_named(tmp_path: Path) -> None:
    tensors = base_tensors()
    result = merged(tensors)
    result["model.layers.0.q_proj.weight"][3, 3] = float("nan")
    assert verify(tmp_path, tensors, result).faults == {"not_finite": 1}


def test_another_adapters_delta_is_no_match(tmp_path: Path) -> None:
    tensors = base_tensors()
    result = dict(tensors)
    for module, (a, b) in factors(99).items():
        name = f"model.{module}.weight"
        result[name] = once(tensors[name], plain(a, b))
    assert only_fault(verify(tmp_path, tensors, result)) == "something_else"


def test_a_tensor_that_the_adapter_leaves_alone_must_be_the_bases(tmp_path: Path) -> None:
    tensors = base_tensors()
    result = merged(tensors)
    result["model.layers.1.norm.weight"] = tensors["model.layers.1.norm.weight"] * 1.5
    verdict = verify(tmp_path, tensors, result)
    assert verdict.faults == {"other_tensors_changed": 1}
    assert verdict.checks[-1].tensor == "model.layers.1.norm.weight"


def test_missing_and_additional_tensors_are_told(tmp_path: Path) -> None:
    tensors = base_tensors()
    result = merged(tensors)
    del result["model.layers.0.norm.weight"], result["model.layers.0.v_proj.weight"]
    verdict = verify(tmp_path, tensors, result | {"model.more.weight": torch.ones(3)})
    assert verdict.faults == {"tensors_missing": 2}
    assert verdict.notes == ("the base has no tensor model.more.weight",)


def test_noise_in_the_last_place_is_inconclusive(tmp_path: Path) -> None:
    tensors = base_tensors(torch.float16)
    result = merged(tensors)
    for module in factors(1):
        weights = result[f"model.{module}.weight"]
        noisy = torch.rand(weights.shape, generator=torch.Generator().manual_seed(5)) < 0.05
        weights.view(torch.int16)[noisy] += torch.where(torch.rand(int(noisy.sum())) < 0.5, 1, -1).to(torch.int16)
    verdict = verify(tmp_path, tensors, result)
    assert verdict.verdict == INCONCLUSIVE and not verdict.faults
    assert "in the last place" in verdict.checks[0].text


def test_whole_modules_must_have_been_replaced(tmp_path: Path) -> None:
    tensors = base_tensors()
    head = torch.randn(3, 40)
    extra = {"base_model.model.score.weight": head}
    result = merged(tensors)
    good = verify(tmp_path / "1", tensors, result | {"score.weight": head}, extra=extra, modules_to_save=["score"])
    assert good.verdict == MATCHES
    wrong = verify(tmp_path / "2", tensors, result | {"score.weight": head + 1}, extra=extra, modules_to_save=["score"])
    assert wrong.faults == {"not_replaced": 1}


def test_every_tensor_of_the_adapter_is_accounted_for_and_what_is_not_replayed_is_said(tmp_path: Path) -> None:
    tensors = base_tensors()
    extra = {
        f"base_model.model.model.{module}.lora_magnitude_vector": torch.ones(SHAPES[module.rpartition(".")[2]][0])
        for module in factors(1)
    }
    verdict = verify(tmp_path, tensors, merged(tensors), extra=extra, use_dora=True)
    assert verdict.verdict == INCONCLUSIVE
    assert all("dora" in check.text for check in verdict.checks)
    assert sum(len(check.adapter_tensors) for check in verdict.checks) == 3 * len(extra)


def test_an_adapter_of_another_architecture_is_refused(tmp_path: Path) -> None:
    tensors = base_tensors(layers=1)
    with pytest.raises(BaseMismatch):
        verify(tmp_path, tensors, tensors)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft of transformers
@pytest.mark.parametrize("name", ["genre-r16-rslora-bf16", "sentiment-rank-pattern"])
def test_pefts_merge_of_a_trained_adapter_matches(tmp_path: Path, name: str) -> None:
    adapter = EXAMPLES / f"minilm-{name}"
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(str(minilm_folder())), str(adapter))
    model.merge_and_unload().save_pretrained(str(tmp_path / "merged"))
    verdict = verify_merge(tmp_path / "merged", base=minilm_folder(), adapter=adapter, progress=silent)
    assert verdict.verdict == MATCHES, verdict.faults


@pytest.mark.parametrize("rounded_first", [False, True])
def test_a_model_that_was_saved_in_another_dtype_matches(tmp_path: Path, rounded_first: bool) -> None:
    tensors = base_tensors(torch.float32)
    start = {name: tensor.bfloat16().float() for name, tensor in tensors.items()} if rounded_first else tensors
    result = {name: tensor.bfloat16() for name, tensor in merged(start).items()}
    verdict = verify(tmp_path, tensors, result)
    assert verdict.verdict == MATCHES
    assert {check.way for check in verdict.checks} == {"one rounding" + (", base in bfloat16" if rounded_first else "")}
    assert all("was F32 and is BF16" in note for note in verdict.notes) and verdict.notes


def test_a_wrapper_around_the_merged_models_names_is_seen_through(tmp_path: Path) -> None:
    tensors = base_tensors()
    wrapped = {f"wrapped.{name}": tensor for name, tensor in merged(tensors).items()}
    assert verify(tmp_path, tensors, wrapped).verdict == MATCHES
