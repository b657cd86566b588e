"""Every kind of module that PEFT saves is composed as its true delta, or refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import compose
from composition.files import CONFIG_NAME, save_composition
from registry.domain.errors import UnsupportedAdapter
from tests.composition.cases import assert_close, by_digest, dense, load, pin
from tests.composition.kinds import TOKENS, deltas, layers, opened, output, save_trained, trained, weighted

KINDS: dict[str, dict[str, Any]] = {
    "embedding": {"target_modules": ["embed", "q"], "r": 3, "lora_alpha": 5},
    "conv": {"target_modules": ["conv1", "conv2", "conv3", "pointwise", "q"], "r": 2, "lora_alpha": 3},
    "lora_bias": {"target_modules": ["conv1", "q", "head"], "r": 3, "lora_alpha": 4, "lora_bias": True},
    "experts": {
        "target_modules": ["q"],
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "r": 2,
        "lora_alpha": 3,
    },
    "one parameter": {"target_modules": ["q"], "target_parameters": ["experts.down_proj"], "r": 2, "use_rslora": True},
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Pair:
    """Two adapters a and b of one kind, of different rank and alpha, as PEFT saved them."""

    def __init__(self, folder: Path, kind: str, **more: Any) -> None:
        config = {**KINDS[kind], **more}
        self.folders = {"a": folder / "a", "b": folder / "b"}
        self.inputs: dict[str, LoadedAdapter] = by_digest(
            a=trained(folder / "a", 1, **config),
            b=trained(folder / "b", 2, **{**config, "r": 4, "lora_alpha": 1}),
        )

    def save(self, text: str, folder: Path, dtype: str = "float32") -> Path:
        folder.mkdir(exist_ok=True)
        save_composition(compose(pin(text, dtype), self.inputs, device="cpu"), folder)
        return folder


@pytest.fixture
def pair(tmp_path: Path, kind: str) -> Pair:
    return Pair(tmp_path, kind)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("t/a + t/b", {"a": 1, "b": 1}),
        ("0.7*t/a - 1.3*t/b", {"a": 0.7, "b": -1.3}),
        ("lerp(t/a, t/b, t=0.25)", {"a": 0.75, "b": 0.25}),
        ("t/b", {"b": 1}),
    ],
)
def test_peft_computes_the_dense_sum_of_every_kind(
    pair: Pair, tmp_path: Path, text: str, weights: dict[str, float]
) -> None:
    assert_close(deltas(pair.save(text, tmp_path / "out")), weighted(pair.folders, weights), 1e-6)


def test_one_adapter_at_weight_one_answers_as_before(pair: Pair, tmp_path: Path) -> None:
    before, after = output(pair.folders["a"]), output(pair.save("t/a", tmp_path / "out"))
    assert not torch.allclose(before, output_of_base())
    assert torch.allclose(before, after, rtol=1e-5, atol=1e-5)


def output_of_base() -> torch.Tensor:
    with torch.no_grad():
        answer: torch.Tensor = layers()(TOKENS)
        return answer


def test_what_cancels_is_refused_as_zero(pair: Pair) -> None:
    with pytest.raises(UnsupportedAdapter, match="rank 0"):
        compose(pin("t/a - t/a"), pair.inputs, device="cpu")


@pytest.mark.parametrize(("left", "right"), [("t/a + t/b", "t/b + t/a"), ("(t/a + t/b) - t/b", "t/a")])
def test_expressions_that_are_equal_give_the_same_bytes(pair: Pair, tmp_path: Path, left: str, right: str) -> None:
    one, other = pair.save(left, tmp_path / "left"), pair.save(right, tmp_path / "right")
    assert pin(left).digest == pin(right).digest
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes()


def test_what_was_saved_loads_again_as_the_same_adapter(pair: Pair, tmp_path: Path) -> None:
    result = compose(pin("t/a - 0.3*t/b"), pair.inputs, device="cpu")
    (tmp_path / "out").mkdir()
    save_composition(result, tmp_path / "out")
    again = {module.name: module for module in load(tmp_path / "out").modules}
    assert {name: module.form for name, module in again.items()} == {m.name: m.form for m in result.modules}
    for module in result.modules:
        assert torch.equal(again[module.name].delta.dense(), module.delta.dense())
        assert (again[module.name].bias is None) == (module.bias is None)


def test_a_truncation_is_the_best_one_of_each_delta(pair: Pair, tmp_path: Path) -> None:
    exact = compose(pin("t/a + t/b"), pair.inputs, device="cpu")
    result = compose(pin("truncate(t/a + t/b, rank=2)"), pair.inputs, device="cpu")
    for module, report in zip(result.modules, result.report.modules, strict=True):
        delta = dense(exact)[module.name]
        best = float(torch.linalg.svdvals(delta)[2:].norm())
        assert float((delta - module.delta.dense()).norm()) == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert report.error == pytest.approx(best, rel=1e-5, abs=1e-6)
    folder = pair.save("truncate(t/a + t/b, rank=2)", tmp_path / "out")
    assert json.loads((folder / CONFIG_NAME).read_text())["r"] == 2
    assert opened(folder)


@pytest.mark.parametrize("text", ["ties(t/a, t/b, density=0.4)", "slerp(t/a, t/b, t=0.3)", "knots(t/a, t/b)"])
@pytest.mark.parametrize("name", ["embedding", "conv", "experts"])
def test_methods_see_the_true_delta_whatever_the_layer(tmp_path: Path, name: str, text: str) -> None:
    pair = Pair(tmp_path, name)
    plain = {digest: as_linear(adapter) for digest, adapter in pair.inputs.items()}
    found, wanted = (compose(pin(text), inputs, device="cpu") for inputs in (pair.inputs, plain))
    assert [module.name for module in found.modules] == [module.name for module in wanted.modules]
    for one, other in zip(found.modules, wanted.modules, strict=True):
        assert torch.allclose(one.delta.dense(), other.delta.dense(), rtol=1e-5, atol=1e-6)
    assert output(pair.save(text, tmp_path / "out")).isfinite().all()


def as_linear(adapter: LoadedAdapter) -> LoadedAdapter:
    """The same deltas, all of them of linear layers."""
    return replace(adapter, modules=tuple(LoadedModule(m.name, None, m.delta) for m in adapter.modules))


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_method_refuses_lora_bias_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapter, match=r"lora_bias.*ties is defined on weights"):
        compose(pin("ties(t/a, t/b)"), Pair(tmp_path, "lora_bias").inputs, device="cpu")


def test_a_bias_survives_where_the_weights_cancel(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "lora_bias")
    modules = [replace(module, delta=module.delta.scaled(-1.0)) for module in adapter_of(pair, "a").modules]
    pair.inputs |= by_digest(b=replace(adapter_of(pair, "a"), subject="t/b@v1", modules=tuple(modules)))
    folder = pair.save("truncate(t/a + t/b, rank=4)", tmp_path / "out")
    assert_close(deltas(folder), {k: v for k, v in weighted(pair.folders, {"a": 2}).items() if k.endswith("bias")})


def adapter_of(pair: Pair, name: str) -> LoadedAdapter:
    return next(adapter for adapter in pair.inputs.values() if adapter.subject == f"{name}@v1")


def test_biases_of_one_input_are_kept_beside_an_input_without(tmp_path: Path) -> None:
    pair = Pair(tmp_path, "lora_bias")
    pair.inputs |= by_digest(b=trained(tmp_path / "plain", 5, target_modules=["q", "conv2"], r=2))
    pair.folders["b"] = tmp_path / "plain"
    folder = pair.save("t/a - 2*t/b", tmp_path / "out")
    assert_close(deltas(folder), weighted(pair.folders, {"a": 1, "b": -2}), 1e-6)


def test_biases_beside_embeddings_are_refused(tmp_path: Path) -> None:
    inputs = Pair(tmp_path, "lora_bias").inputs | by_digest(e=trained(tmp_path / "e", 5, target_modules=["embed"], r=2))
    with pytest.raises(UnsupportedAdapter, match=r"the module embed.*lora_bias.*embedding"):
        compose(pin("t/a + t/e"), inputs, device="cpu")


def test_kinds_of_several_inputs_stand_side_by_side(tmp_path: Path) -> None:
    folders, inputs = {}, {}
    for seed, name in enumerate(("embedding", "conv", "experts")):
        short = name[0]
        inputs |= by_digest(**{short: trained(tmp_path / short, seed, **KINDS[name])})
        folders[short] = tmp_path / short
    (tmp_path / "out").mkdir()
    save_composition(compose(pin("t/e - t/c"), inputs, device="cpu"), tmp_path / "out")
    assert_close(deltas(tmp_path / "out"), weighted(folders, {"e": 1, "c": -1}), 1e-6)


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd layer with groups")
def test_grouped_convolutions_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapter, match="grouped_conv"):
        trained(tmp_path / "a", 1, target_modules=["grouped"], r=2)


def test_inputs_that_adapt_other_parameters_of_a_module_are_refused(tmp_path: Path) -> None:
    inputs = by_digest(
        a=trained(tmp_path / "a", 1, **KINDS["experts"]), b=trained(tmp_path / "b", 2, **KINDS["one parameter"])
    )
    with pytest.raises(UnsupportedAdapter, match=r"experts\.(down|gate_up)_proj"):
        compose(pin("t/a + t/b"), inputs, device="cpu")


def test_a_module_that_is_of_another_kind_in_another_input_is_refused(tmp_path: Path) -> None:
    a = trained(tmp_path / "a", 1, target_modules=["conv1"], r=2)
    flat = replace(a, subject="t/b@v1", modules=as_linear(a).modules)
    with pytest.raises(UnsupportedAdapter, match=r"the module conv1.*linear"):
        compose(pin("t/a + t/b"), by_digest(a=a, b=flat), device="cpu")


@pytest.mark.parametrize(
    ("config", "variant"),
    [
        ({"bias": "all"}, "bias"),
        ({"bias": "lora_only"}, "bias"),
        ({"modules_to_save": ["head"]}, "modules_to_save"),
        ({"use_dora": True}, "dora"),
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
    ],
)
def test_what_is_not_combined_is_refused_by_name(tmp_path: Path, config: dict[str, Any], variant: str) -> None:
    save_trained(tmp_path / "a", 1, target_modules=["q"], r=2, **config)
    with pytest.raises(UnsupportedAdapter) as caught:
        load(tmp_path / "a")
    assert caught.value.variant == variant
