"""Every kind of adapter is merged into a base as PEFT merges it, in one rounding; what can't be is refused by name."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.engine import silent
from composition.files import WEIGHTS_NAME
from composition.merge_job import merge
from composition.placement import delta_spec, place_modules
from composition.shards import headers_index
from composition.terms import Form
from composition.verify_merge import verify_merge
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.expression import parse
from registry.domain.replacements import Replacements
from registry.formats.base_files import read_base
from registry.formats.base_model import index_base
from tests.composition.cases import assert_close
from tests.composition.kinds import BASE, layers, save_trained, weighted
from tests.composition.models import (
    Tensors,
    World,
    base_tensors,
    factors,
    read_tensors,
    world,
    write_base,
    write_lora,
)

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft of transformers

KINDS: dict[str, dict[str, Any]] = {
    "embedding": {"target_modules": ["embed", "q"]},
    "conv": {"target_modules": ["conv1", "conv2", "conv3", "pointwise", "q"]},
    "lora_bias": {"target_modules": ["conv1", "q", "head"], "lora_bias": True},
    "experts": {"target_modules": ["q"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "dora": {"target_modules": ["embed", "q", "conv1", "conv2", "pointwise", "conv3"], "use_dora": True},
}


def state() -> Tensors:
    return {name: tensor.float() for name, tensor in layers().state_dict().items()}


class Bench:
    """A registry whose base is the model of every kind of layer, with an adapter a (rank 3) and b (rank 2)."""

    def __init__(self, made: World, tensors: Tensors) -> None:
        self.made, self.tensors = made, tensors
        self.folders: dict[str, Path] = {}

    def push(self, name: str, seed: int, **config: Any) -> None:
        self.folders[name] = save_trained(self.made.root / name, seed, **config)
        self.made.push(f"t/{name}", self.folders[name])

    def changed(self, text: str, out: str = "out", *, choice: str | None = None) -> Tensors:
        """What merging adds to each tensor that it changes, in float64."""
        recipe = parse(text).with_replacements(Replacements.parse(choice)) if choice else parse(text)
        merge(self.made.registry, recipe, base=self.made.base, out=self.made.root / out, device="cpu")
        after = read_tensors(self.made.root / out)
        assert after.keys() == self.tensors.keys()
        found = {name: after[name].double() - before.double() for name, before in self.tensors.items()}
        return {name: change for name, change in found.items() if change.any()}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    stack: list[Any] = []

    def make(tensors: Tensors | None = None, *, shards: int = 2, under: str = "world", **options: Any) -> Bench:
        root = tmp_path / under
        root.mkdir()
        held = state() if tensors is None else tensors
        opened = world(root, held, shards=shards, **options)
        made = opened.__enter__()
        stack.append(opened)
        made.registry.add_base(BASE, index_base(made.base))
        return Bench(made, held)

    yield make
    for opened in reversed(stack):
        opened.__exit__(None, None, None)


def kind_of(bench: Bench, kind: str) -> Bench:
    bench.push("a", 1, **{**KINDS[kind], "r": 3, "lora_alpha": 4})
    bench.push("b", 2, **{**KINDS[kind], "r": 2, "lora_alpha": 1})
    return bench


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_merged_as_peft_merges_it(bench: Callable[..., Bench], kind: str) -> None:
    found = kind_of(bench(), kind)
    assert_close(found.changed("t/a"), weighted(found.folders, {"a": 1}), 1e-6)


@pytest.mark.parametrize("kind", ["embedding", "lora_bias", "experts", "dora"])
def test_a_sum_of_every_kind_is_the_dense_sum(bench: Callable[..., Bench], kind: str) -> None:
    found = kind_of(bench(), kind)
    assert_close(found.changed("0.7*t/a - 0.3*t/b"), weighted(found.folders, {"a": 0.7, "b": -0.3}), 1e-6)


def test_dora_is_merged_beside_plain_adapters_and_within_truncations(bench: Callable[..., Bench]) -> None:
    found = kind_of(bench(), "dora")
    found.push("plain", 3, **{**KINDS["dora"], "use_dora": False, "r": 2})
    expected = weighted(found.folders, {"a": 1, "plain": 0.5})
    assert_close(found.changed("t/a + 0.5*t/plain"), expected, 1e-6)
    assert_close(found.changed("truncate(t/a, rank=64) + 0.5*t/plain", "truncated"), expected, 1e-6)


def test_a_method_is_brought_to_its_rank_and_then_merged(bench: Callable[..., Bench]) -> None:
    from composition.jobs import blend
    from registry.domain.reference import AdapterName

    found = kind_of(bench(), "conv")
    blend(found.made.registry, parse("ties(t/a, t/b, rank=2)"), AdapterName.parse("t/ties"), device="cpu")
    whole, parts = found.changed("t/ties", "whole"), found.changed("ties(t/a, t/b, rank=2)", "parts")
    assert whole and whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("kind", ["dora", "experts"])
def test_the_bits_of_every_kind_do_not_depend_on_shards_or_pieces(
    bench: Callable[..., Bench], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = kind_of(bench(shards=1, under="one"), kind).changed("t/a + 0.5*t/b")
    monkeypatch.setattr("composition.base_merge.CHUNK", 64)
    divided = kind_of(bench(shards=4, under="four"), kind).changed("t/a + 0.5*t/b")
    assert whole.keys() == divided.keys()
    assert all(torch.equal(whole[name], divided[name]) for name in whole)


def test_experts_of_a_base_that_stores_them_transposed_get_the_transposed_delta(bench: Callable[..., Bench]) -> None:
    straight = kind_of(bench(under="straight"), "experts").changed("t/a")
    turned = {name: t.transpose(1, 2) if "experts" in name else t for name, t in state().items()}
    found = kind_of(bench(turned, under="turned"), "experts").changed("t/a")
    for name, change in straight.items():
        wanted = change.transpose(1, 2) if "experts" in name else change
        assert torch.allclose(found[name], wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model_type", "transposed"), [("gpt_oss", True), ("mixtral", False)])
def test_square_experts_lie_as_their_model_says(tmp_path: Path, model_type: str, transposed: bool) -> None:
    base = write_base(tmp_path / "base", {"mlp.experts.down_proj": torch.zeros(3, 6, 6)}, model_type=model_type)
    stored = read_base(base)
    spec = delta_spec("mlp.experts.down_proj[1]", Form("parameter", expert=1, experts=3), (6, 6), transposed=False)
    (places,) = place_modules([spec], stored, headers_index(stored), name="base").values()
    assert places[0].transposed is transposed


def test_a_bias_without_one_in_the_base_is_refused_by_name(bench: Callable[..., Bench]) -> None:
    tensors = {name: tensor for name, tensor in state().items() if name != "q.bias"}
    found = kind_of(bench(tensors), "lora_bias")
    with pytest.raises(UnsupportedAdapter, match=r"lora_bias of the module q.*no q\.bias"):
        found.changed("t/a")


def test_a_row_that_dora_leaves_without_length_is_refused(bench: Callable[..., Bench]) -> None:
    found = bench({name: 0 * tensor for name, tensor in state().items()})
    found.push("still", 4, still=True, target_modules=["q"], use_dora=True, r=2)
    with pytest.raises(InvalidAdapter, match="cancel"):
        found.changed("t/still")


@pytest.mark.parametrize(
    ("config", "head", "refused"),
    [
        ({"architectures": ["ToyForCausalLM"]}, False, True),
        ({"architectures": ["ToyForCausalLM"]}, True, False),
        ({"architectures": ["ToyForCausalLM"], "tie_word_embeddings": True}, True, True),
        ({"architectures": ["ToyModel"]}, False, False),
    ],
)
def test_embeddings_that_are_the_head_too_are_refused(
    tmp_path: Path, config: dict[str, Any], head: bool, refused: bool
) -> None:
    tensors = base_tensors()
    if head:
        tensors["lm_head.weight"] = torch.randn(17, 40).bfloat16()
    with world(tmp_path, tensors) as made:
        (made.base / "config.json").write_text(json.dumps({"model_type": "toy", **config}))
        path = "base_model.model.model.embed_tokens.lora_embedding_"
        extra = {f"{path}A": torch.randn(4, 17), f"{path}B": torch.randn(40, 4)}
        made.push("t/a", write_lora(tmp_path / "a", factors(1), extra=extra))
        if refused:
            with pytest.raises(UnsupportedAdapter, match=r"embed_tokens\.weight.*ties"):
                merge(made.registry, parse("t/a"), base=made.base, out=tmp_path / "out", device="cpu")
            return
        merge(made.registry, parse("t/a"), base=made.base, out=tmp_path / "out", device="cpu")
        after = read_tensors(tmp_path / "out")
    changed = {name for name in tensors if not torch.equal(after[name], tensors[name])}
    assert "model.embed_tokens.weight" in changed and "lm_head.weight" not in changed


# -- tensors that adapters replace ------------------------------------------------------------------------------------

REPLACING: dict[str, dict[str, Any]] = {
    "saved": {"target_modules": ["q"], "modules_to_save": ["head", "embed"], "r": 3},
    "biases": {"target_modules": ["q", "conv1"], "bias": "all", "r": 2},
    "dora": {"target_modules": ["q"], "use_dora": True, "modules_to_save": ["head"], "r": 2},
    "lora_bias": {"target_modules": ["conv1"], "lora_bias": True, "r": 2},
}


def replacing(bench: Bench, *names: str) -> Bench:
    for name in names:
        bench.push(name, 1 + list(REPLACING).index(name), **REPLACING[name])
    return bench


@pytest.mark.parametrize("choice", ["average", "difference", "from=t/{}"])
@pytest.mark.parametrize("name", ["saved", "biases", "dora"])
def test_what_one_adapter_replaces_is_written_as_peft_merges_it(
    bench: Callable[..., Bench], name: str, choice: str
) -> None:
    found = replacing(bench(), name)
    changes = found.changed(f"t/{name}", choice=choice.format(name))
    assert_close(changes, weighted(found.folders, {name: 1}), 1e-6)


def test_differences_of_several_inputs_are_weighed_beside_what_they_add(bench: Callable[..., Bench]) -> None:
    found = replacing(bench(), "saved", "dora", "lora_bias")
    weights = {"saved": 0.7, "dora": -0.3, "lora_bias": 1.0}
    changes = found.changed("0.7*t/saved - 0.3*t/dora + t/lora_bias", choice="difference")
    assert_close(changes, weighted(found.folders, weights), 1e-6)


def test_a_bias_that_is_replaced_keeps_what_another_input_adds_to_it(bench: Callable[..., Bench]) -> None:
    found = replacing(bench(), "biases", "lora_bias")
    changes = found.changed("t/biases + t/lora_bias", choice="from=t/biases")
    assert_close(changes, weighted(found.folders, {"biases": 1, "lora_bias": 1}), 1e-6)


def test_replaced_tensors_are_rounded_to_the_bases_dtype_once(bench: Callable[..., Bench]) -> None:
    found = replacing(bench({name: tensor.bfloat16() for name, tensor in state().items()}), "saved")
    found.changed("t/saved", choice="from=t/saved")
    merged = read_tensors(found.made.root / "out")
    own = load_file(found.folders["saved"] / WEIGHTS_NAME)
    assert torch.equal(merged["head.weight"], own["base_model.model.head.weight"].bfloat16())
    verdict = verify_merge(
        found.made.root / "out", base=found.made.base, adapter=found.folders["saved"], progress=silent
    )
    assert verdict.verdict == "matches"


def test_a_head_that_the_base_lacks_is_refused_by_name(bench: Callable[..., Bench]) -> None:
    found = replacing(bench({n: t for n, t in state().items() if not n.startswith("head")}), "saved")
    with pytest.raises(UnsupportedAdapter, match=r"modules_to_save \(head\.bias\).*\[3\] must be there.*has none"):
        found.changed("t/saved", choice="average")


def test_without_a_choice_nothing_is_replaced(bench: Callable[..., Bench]) -> None:
    with pytest.raises(UnsupportedAdapter, match="--modules-to-save"):
        replacing(bench(), "saved").changed("t/saved")


@pytest.mark.parametrize("parts", [("gate_proj", "up_proj", "down_proj"), ("w1", "w3", "w2")])
def test_experts_that_the_base_stores_one_by_one_get_their_own_rows(
    bench: Callable[..., Bench], parts: tuple[str, str, str]
) -> None:
    """As checkpoints of Mixtral and Qwen have them, whose experts transformers stacks when it loads them."""
    stacked = kind_of(bench(under="stacked"), "experts").changed("t/a - 0.5*t/b")
    tensors = {name: tensor for name, tensor in state().items() if not name.startswith("experts.")}
    gate, up, down = parts
    for expert in range(3):
        both, last = state()["experts.gate_up_proj"][expert], state()["experts.down_proj"][expert]
        halves = both.chunk(2)
        tensors |= {f"mlp.experts.{expert}.{part}.weight": half for part, half in zip((gate, up), halves, strict=True)}
        tensors[f"mlp.experts.{expert}.{down}.weight"] = last
    found = bench({name: tensor.contiguous() for name, tensor in tensors.items()}, under="single")
    for name, seed in (("a", 1), ("b", 2)):
        rank = {"a": {"r": 3, "lora_alpha": 4}, "b": {"r": 2, "lora_alpha": 1}}[name]
        folder = save_trained(found.made.root / name, seed, **{**KINDS["experts"], **rank})
        found.made.push(f"t/{name}", under_mlp(folder))
    changes = found.changed("t/a - 0.5*t/b")
    for expert in range(3):
        own = [changes[f"mlp.experts.{expert}.{part}.weight"] for part in (gate, up)]
        assert torch.allclose(torch.cat(own), stacked["experts.gate_up_proj"][expert], atol=1e-6)
        last = changes[f"mlp.experts.{expert}.{down}.weight"]
        assert torch.allclose(last, stacked["experts.down_proj"][expert], atol=1e-6)


def under_mlp(folder: Path) -> Path:
    """The same adapter of a model whose experts lie in a layer's `mlp`."""
    tensors = {n.replace("model.experts", "model.mlp.experts"): t for n, t in load_file(folder / WEIGHTS_NAME).items()}
    save_file(tensors, folder / WEIGHTS_NAME)
    return folder
