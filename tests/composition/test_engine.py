"""Composing whole adapters: the laws, the reports, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import Composition, compose
from composition.low_rank import LowRank
from composition.schedule import choose_device
from registry.domain.errors import InvalidAdapter, InvalidRecipe, InvalidSetting, UnsupportedAdapter
from registry.domain.expression import parse
from tests.composition.cases import (
    SUMMARY,
    assert_close,
    by_digest,
    dense,
    dense_sum,
    pin,
    random_adapter,
)

INPUTS = by_digest(**{name: random_adapter(name) for name in "abc"})


def composed(text: str, dtype: str = "float32") -> Composition:
    return compose(pin(text, dtype), INPUTS, device="cpu")


def assert_same_bits(left: Composition, right: Composition) -> None:
    assert [module.name for module in left.modules] == [module.name for module in right.modules]
    for one, other in zip(left.modules, right.modules, strict=True):
        assert torch.equal(one.delta.A, other.delta.A) and torch.equal(one.delta.B, other.delta.B)


weights = st.sampled_from(["0.1", "0.25", "0.7", "1", "2", "-1", "-0.3", "1e-4"])


@settings(max_examples=30, deadline=None)
@given(weights, weights, weights)
def test_composing_and_then_forming_the_delta_is_forming_and_then_adding(x: str, y: str, z: str) -> None:
    result = composed(f"{x}*t/a + {y}*t/b + {z}*t/c")
    assert_close(dense(result), dense_sum({"a": float(x), "b": float(y), "c": float(z)}, INPUTS))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("t/a + t/b + t/c", "t/c + (t/b + t/a)"),
        ("t/a", "1*t/a"),
        ("(t/a + t/b) - t/b", "t/a"),
        ("lerp(t/a, t/b, t=0)", "t/a"),
        ("lerp(t/a, t/b, t=1)", "t/b"),
        ("lerp(t/a, t/b, t=0.25)", "0.75*t/a + 0.25*t/b"),
        ("truncate(t/a + t/b, rank=2)", "truncate(t/b + t/a, rank=2)"),
        ("truncate(t/a, rank=3)", "t/a"),
    ],
)
def test_expressions_that_are_equal_give_the_same_bits(left: str, right: str) -> None:
    assert_same_bits(composed(left), composed(right))


def test_one_adapter_at_weight_one_is_unchanged() -> None:
    result = composed("t/a")
    for module, source in zip(result.modules, INPUTS[next(iter(INPUTS))].modules, strict=True):
        assert torch.equal(module.delta.A, source.delta.A)
        assert torch.equal(module.delta.B, source.delta.folded().B)


@pytest.mark.parametrize("text", ["t/a - t/a", "0*t/a", "truncate(t/a - t/a, rank=2)"])
def test_a_result_that_cancels_is_refused(text: str) -> None:
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        composed(text)


def test_a_copy_under_another_digest_cancels_when_it_is_truncated() -> None:
    twin = by_digest(a=random_adapter("a"), twin=random_adapter("a"))
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        compose(pin("truncate(t/a - t/twin, rank=2)"), twin, device="cpu")


def test_truncation_comes_last_and_is_optimal() -> None:
    exact = dense_sum({"a": 0.7, "b": 0.3}, INPUTS)
    result = composed("truncate(0.7*t/a + 0.3*t/b, rank=4)")
    for module in result.modules:
        best = float(torch.linalg.svdvals(exact[module.name])[4:].norm())
        error = float((exact[module.name] - module.delta.dense()).norm())
        assert module.delta.rank == 4
        assert error == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "truncate(t/a + t/b, rank=2)",
        "truncate(t/a, rank=1) + t/b",
        "truncate(truncate(t/a, rank=2) - t/c, rank=3)",
        "t/a + t/b",
    ],
)
def test_the_reported_figures_equal_recomputed_ones(text: str) -> None:
    result = composed(text)
    without = text.replace("truncate", "").replace(", rank=1", "").replace(", rank=2", "").replace(", rank=3", "")
    exact, found = dense(composed(without)), dense(result)
    for module in result.report.modules:
        assert module.norm == pytest.approx(float(exact[module.name].norm()), rel=1e-6)
        error = float((exact[module.name] - found[module.name]).norm())
        assert module.error == pytest.approx(error, rel=1e-6, abs=1e-6 * module.norm)
    total = math.sqrt(sum(float(delta.norm()) ** 2 for delta in exact.values()))
    assert result.report.norm == pytest.approx(total, rel=1e-6)
    assert result.report.energy_kept == pytest.approx(1 - (result.report.error / total) ** 2)


@pytest.mark.parametrize(("dtype", "unit"), [("bfloat16", 2**-8), ("float16", 2**-11)])
def test_the_rounding_to_half_precision_is_small_and_reported(dtype: str, unit: float) -> None:
    exact, result = dense(composed("t/a - 0.3*t/b")), composed("t/a - 0.3*t/b", dtype)
    for module in result.report.modules:
        error = float((exact[module.name] - dense(result)[module.name]).norm())
        assert module.rounding == pytest.approx(error, rel=1e-4)
        assert 0 < error <= 2 * unit * module.norm
    assert composed("t/a").report.rounding == 0.0


def test_factors_of_very_different_size_survive_half_precision() -> None:
    a = random_adapter("a")
    skewed = replace(
        a,
        modules=tuple(
            LoadedModule(m.name, None, LowRank(m.delta.A * 1e-9, m.delta.B * 1e5, m.delta.scaling)) for m in a.modules
        ),
    )
    result = compose(pin("t/a", "float16"), by_digest(a=skewed), device="cpu")
    assert result.report.rounding <= 2e-3 * result.report.norm


def test_weights_that_overflow_the_dtype_are_refused_naming_the_module() -> None:
    with pytest.raises(InvalidAdapter, match=r"layers\.0\.q.*overflow float16"):
        composed("1e12*t/a", "float16")
    with pytest.raises(InvalidAdapter, match="overflow float32"):
        composed("1e300*t/a")
    with pytest.raises(InvalidAdapter, match="overflow float32"):
        composed("truncate(1e300*t/a + t/b, rank=2)")


def test_a_module_that_only_one_input_has_is_kept() -> None:
    inputs = by_digest(a=random_adapter("a", modules=("layers.0.q",)), b=random_adapter("b", modules=("layers.0.v",)))
    result = compose(pin("t/a - t/b"), inputs, device="cpu")
    assert_close(dense(result), dense_sum({"a": 1, "b": -1}, inputs))


def test_every_module_is_reported_and_a_module_without_a_delta_is_left_out() -> None:
    a = random_adapter("a")
    dead = LoadedModule("layers.0.q", None, LowRank(a.modules[0].delta.A, torch.zeros(12, 3)))
    result = compose(
        pin("truncate(t/a, rank=2)"), by_digest(a=replace(a, modules=(dead, *a.modules[1:]))), device="cpu"
    )
    assert [module.name for module in result.modules] == ["layers.0.v", "layers.1.q"]
    assert result.report.modules[0].rank == 0
    assert result.report.document()["modules"][0]["energy_kept"] == 1.0


def test_deltas_of_different_shapes_are_refused_naming_the_module() -> None:
    other = LoadedAdapter(
        "t/b@v1", SUMMARY, (LoadedModule("layers.0.q", None, LowRank(torch.ones(1, 3), torch.ones(3, 1))),)
    )
    with pytest.raises(UnsupportedAdapter, match=r"layers\.0\.q.*\(3, 3\) and \(12, 10\)"):
        compose(pin("t/a + t/b"), by_digest(a=random_adapter("a"), b=other), device="cpu")


def test_what_the_inputs_agree_on_is_inherited() -> None:
    inputs = by_digest(
        a=random_adapter("a", base_revision="main"), b=random_adapter("b", task_type="CAUSAL_LM", base_revision="main")
    )
    result = compose(pin("t/a + t/b"), inputs, device="cpu")
    assert (result.base_name, result.base_revision, result.task_type) == ("org/base", "main", None)
    assert compose(pin("t/a"), inputs, device="cpu").task_type == "FEATURE_EXTRACTION"


def test_inputs_must_agree_on_fan_in_fan_out() -> None:
    transposed = random_adapter("a", variants=("fan_in_fan_out",))
    with pytest.raises(UnsupportedAdapter, match="t/a@v1: fan_in_fan_out"):
        compose(pin("t/a + t/b"), by_digest(a=transposed, b=random_adapter("b")), device="cpu")
    assert compose(pin("2*t/a"), by_digest(a=transposed), device="cpu").fan_in_fan_out


def test_one_and_two_threads_give_the_same_bits() -> None:
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(composed("truncate(t/a + 0.5*t/b - t/c, rank=4)", "bfloat16"))
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*results)
    assert results[0].report == results[1].report


def test_a_recipe_must_be_pinned() -> None:
    with pytest.raises(InvalidRecipe, match="pinned"):
        compose(parse("t/a"), INPUTS, device="cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:99", "meta", "", "cuda:-1"):
        with pytest.raises(InvalidSetting, match="device"):
            choose_device(name)
