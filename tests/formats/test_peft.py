"""Files that PEFT itself saved, from tiny models, are read as PEFT reads them; contradictions are refused by name."""

import io
import json
import math
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.config import KasaConfig
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.pytorch_utils import Conv1D

from registry.domain.bases import BaseIndex, BaseTensor, match
from registry.domain.errors import (
    AdaptersError,
    InvalidAdapter,
    InvalidFile,
    RankMismatch,
    UnsupportedAdapter,
)
from registry.domain.spec import AdapterSpec, ModuleSpec
from registry.formats import detect, peft

EXAMPLES = sorted((Path(__file__).parents[2] / "examples" / "adapters").iterdir())


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_up_proj = nn.Parameter(torch.randn(4, 8, 12))
        self.down_proj = nn.Parameter(torch.randn(4, 6, 8))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(8, 8)
        self.value = nn.Linear(8, 6)
        self.experts = Experts()


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layers = nn.ModuleList(Layer() for _ in range(3))
        self.conv = nn.Conv2d(4, 6, 3)
        self.grouped = nn.Conv2d(4, 8, 3, groups=2)
        self.conv1 = nn.Conv1d(4, 6, 3)
        self.conv3 = nn.Conv3d(4, 6, 3)
        self.attention = nn.MultiheadAttention(8, 2)
        self.norm = nn.LayerNorm(8)
        self.c_attn = Conv1D(12, 8)  # GPT-2's: stored as (in, out)
        self.classifier = nn.Linear(8, 3)


Save = Callable[..., tuple[Path, PeftModel]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save an adapter with PEFT: (folder, model)."""
    torch.set_num_threads(1)

    def run(**options: Any) -> tuple[Path, PeftModel]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = get_peft_model(Model(), LoraConfig(**{"r": 4, "lora_alpha": 6, **options}))
            model.save_pretrained(tmp_path / "adapter")
        # The class stands in this test, a library that nobody knows: what a library with a model writes.
        edit(tmp_path / "adapter", auto_mapping=None)
        return tmp_path / "adapter", model

    return run


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def module(spec: AdapterSpec, name: str, kind: str | None = None) -> ModuleSpec:
    (found,) = (m for m in spec.modules if m.name == name and kind in (None, m.kind))
    return found


def layers(model: PeftModel) -> Iterator[tuple[str, LoraLayer]]:
    for name, layer in model.base_model.model.named_modules():
        if isinstance(layer, LoraLayer) and "default" in layer.r:
            yield name, layer


KINDS: dict[str, dict[str, Any]] = {
    "plain": {"target_modules": ["query", "value"]},
    "rslora": {"target_modules": ["query", "value"], "use_rslora": True},
    "patterns": {
        "target_modules": ["query", "value"],
        "rank_pattern": {"^layers.0.query": 2, "layers.[12].value": 3, "query": 5},
        "alpha_pattern": {r"layers\.\d+\.value": 7, "layers.0": 99},
    },
    "patterns with rslora": {
        "target_modules": ["query"],
        "rank_pattern": {"0.query": 2},
        "alpha_pattern": {"0.query": 1.5},
        "use_rslora": True,
    },
    "dora": {"target_modules": ["query", "embed", "conv", "conv1", "conv3"], "use_dora": True},
    "lora_bias": {"target_modules": ["query", "conv"], "lora_bias": True},
    "embedding": {"target_modules": ["embed"]},
    "conv": {"target_modules": ["conv", "grouped", "conv1", "conv3"]},
    "attention": {"target_modules": ["attention"]},
    "bias all": {"target_modules": ["query"], "bias": "all"},
    "bias lora_only": {"target_modules": ["query"], "bias": "lora_only"},
    "modules_to_save": {"target_modules": ["query"], "modules_to_save": ["classifier", "norm", "score"]},
    "trained tokens": {"target_modules": ["query"], "trainable_token_indices": {"embed": [1, 2]}},
    "parameters": {"target_modules": ["query"], "target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
    "one parameter": {
        "target_modules": [],
        "target_parameters": ["1.experts.down_proj"],
        "rank_pattern": {".*proj": 2},
    },
    "a flat parameter": {"target_modules": ["query"], "target_parameters": ["value.weight"], "use_rslora": True},
    "transposed": {"target_modules": ["c_attn"]},
    "kasa": {"target_modules": ["query"], "kasa_config": KasaConfig()},
    "everything at once": {
        "target_modules": ["query", "embed", "conv"],
        "use_dora": True,
        "use_rslora": True,
        "bias": "lora_only",
        "modules_to_save": ["classifier"],
        "rank_pattern": {"embed": 2},
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_rank_and_scaling_of_each_module_are_those_of_peft(kind: str, save: Save) -> None:
    folder, model = save(**KINDS[kind])
    spec = peft.read_folder(folder)
    tensors = load_file(folder / "adapter_model.safetensors")
    factors = {m.tensors["A"]: m for m in spec.modules if "A" in m.tensors}
    seen = 0
    for name, layer in layers(model):
        keys = (f"base_model.model.{name}.lora_A.weight", f"base_model.model.{name}.lora_embedding_A")
        (key,) = (key for key in keys if key in tensors)
        found = factors.pop(key)
        assert found.rank == layer.r["default"], name
        assert found.alpha == layer.lora_alpha["default"], name
        assert math.isclose(found.scaling, layer.scaling["default"]), name
        seen += 1
    assert seen and not factors


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_of_the_file_is_in_exactly_one_module(kind: str, save: Save) -> None:
    folder, _ = save(**KINDS[kind])
    spec = peft.read_folder(folder)
    placed = [tensor for m in spec.modules for tensor in m.tensors.values()]
    tensors = load_file(folder / "adapter_model.safetensors")
    assert sorted(placed) == sorted(tensors)
    assert spec.summary.parameters == sum(tensor.numel() for tensor in tensors.values())


@pytest.fixture(scope="module")
def tiny() -> BaseIndex:
    tensors = Model().state_dict().items()
    return BaseIndex("safetensors", None, tuple(BaseTensor("", n, "F32", tuple(t.shape), 0, "") for n, t in tensors))


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_meets_the_weight_that_peft_adapts(kind: str, save: Save, tiny: BaseIndex) -> None:
    folder, model = save(**KINDS[kind])
    names = {parameter.data_ptr(): name for name, parameter in model.get_base_model().named_parameters()}
    adapted = set()
    for _, layer in layers(model):
        inner = layer.get_base_layer()
        parameter = getattr(layer, "parameter_name", None) or "weight"
        weight = getattr(inner, parameter, None)
        weight = inner.in_proj_weight if weight is None else weight
        adapted.add(names[weight.data_ptr()].replace(".base_layer", ""))
    found = match(peft.read_folder(folder), tiny, base="tiny").modules
    factors = [m for m in found if m.rank]
    assert {m.base_tensor for m in factors} == adapted
    assert all(m.base_tensor in (m.name, f"{m.name}.weight", f"{m.name}.in_proj_weight") for m in factors)


def test_modules_come_back_from_their_documents(save: Save, tiny: BaseIndex) -> None:
    folder, _ = save(**KINDS["everything at once"])
    for found in match(peft.read_folder(folder), tiny, base="tiny").modules:
        assert ModuleSpec.from_document(json.loads(json.dumps(found.to_document()))) == found


VARIANTS = {
    "plain": (),
    "rslora": ("rslora",),
    "patterns": ("alpha_pattern", "rank_pattern"),
    "patterns with rslora": ("alpha_pattern", "rank_pattern", "rslora"),
    "dora": ("conv", "dora", "embedding"),
    "lora_bias": ("conv", "lora_bias"),
    "embedding": ("embedding",),
    "conv": ("conv", "grouped_conv"),
    "attention": (),
    "bias all": ("bias",),
    "bias lora_only": ("bias",),
    "modules_to_save": ("modules_to_save",),
    "trained tokens": ("trainable_tokens",),
    "parameters": ("target_parameters",),
    "one parameter": ("rank_pattern", "target_parameters"),
    "a flat parameter": ("rslora", "target_parameters"),
    "transposed": ("fan_in_fan_out",),
    "kasa": ("kasa",),
    "everything at once": ("bias", "conv", "dora", "embedding", "modules_to_save", "rank_pattern", "rslora"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_plain_reader_would_get_wrong_is_named(kind: str, save: Save) -> None:
    folder, _ = save(**KINDS[kind])
    assert peft.read_folder(folder).summary.variants == VARIANTS[kind]


SHAPES = {
    "dora": {"layers.0.query": ("linear", (8, 8)), "embed": ("embedding", (20, 8)), "conv": ("conv", (6, 4, 3, 3))},
    "conv": {"grouped": ("conv", (8, 2, 3, 3)), "conv1": ("conv", (6, 4, 3)), "conv3": ("conv", (6, 4, 3, 3, 3))},
    "attention": {"attention": ("linear", (24, 8)), "attention.out_proj": ("linear", (8, 8))},
    "modules_to_save": {"classifier": ("saved", (3, 8)), "norm": ("saved", (8,))},
    "parameters": {"layers.2.experts.down_proj": ("parameter", (4, 6, 8))},
    "a flat parameter": {"layers.2.value.weight": ("parameter", (6, 8))},
    "trained tokens": {"embed": ("tokens", (2, 8))},
    "transposed": {"c_attn": ("linear", (12, 8))},
}


@pytest.mark.parametrize("kind", SHAPES)
def test_the_shape_that_the_base_must_have_is_known(kind: str, save: Save) -> None:
    folder, model = save(**KINDS[kind])
    spec = peft.read_folder(folder)
    for name, (expected, shape) in SHAPES[kind].items():
        found = module(spec, name)
        assert (found.kind, found.base_shape) == (expected, shape)
    assert model is not None


def test_roles_say_which_tensor_is_what(save: Save) -> None:
    folder, _ = save(**KINDS["everything at once"])
    spec = peft.read_folder(folder)
    prefix = "base_model.model."
    assert module(spec, "layers.0.query", "linear").tensors == {
        "A": f"{prefix}layers.0.query.lora_A.weight",
        "B": f"{prefix}layers.0.query.lora_B.weight",
        "magnitude": f"{prefix}layers.0.query.lora_magnitude_vector",
    }
    assert module(spec, "layers.0.query", "bias").tensors == {"bias": f"{prefix}layers.0.query.base_layer.bias"}
    assert module(spec, "embed").tensors["A"] == f"{prefix}embed.lora_embedding_A"
    assert module(spec, "classifier").tensors == {
        "weight": f"{prefix}classifier.weight",
        "bias": f"{prefix}classifier.bias",
    }
    assert spec.summary.targets == ("conv", "embed", "query")
    assert spec.summary.ranks == {"embed": 2}


def test_a_magnitude_that_older_peft_saved_with_weight_is_read(save: Save) -> None:
    folder, _ = save(target_modules=["query"], use_dora=True)
    old, new = "lora_magnitude_vector", "lora_magnitude_vector.weight"
    rewrite(
        folder, lambda t: [t.update({name.replace(old, new): t.pop(name)}) for name in list(t) if name.endswith(old)]
    )
    assert module(peft.read_folder(folder), "layers.0.query").tensors["magnitude"].endswith(new)


def test_an_embedding_that_was_saved_whole_is_accounted_for(save: Save) -> None:
    folder, _ = save(target_modules=["query"])
    rewrite(folder, lambda t: t.update({"base_model.model.model.embed_tokens.weight": torch.zeros(20, 8)}))
    saved = module(peft.read_folder(folder), "model.embed_tokens")
    assert (saved.kind, saved.base_shape, saved.variants) == ("saved", (20, 8), ("modules_to_save",))


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_every_example_is_accepted(folder: Path) -> None:
    spec = peft.read_folder(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert spec.config == config
    assert spec.summary.rank == config["r"]
    assert spec.summary.base_name == config["base_model_name_or_path"]
    assert not [variant for variant in spec.summary.variants if variant.startswith("unknown")]


CONFIGS: dict[str, tuple[dict[str, Any], type[AdaptersError], str]] = {
    "r true": ({"r": True}, InvalidAdapter, "r: True"),
    "r huge": ({"r": 10**9}, InvalidAdapter, "r: 1000000000"),
    "r negative": ({"r": -4}, InvalidAdapter, "r: -4"),
    "r zero": ({"r": 0}, InvalidAdapter, "r: 0"),
    "r text": ({"r": "4"}, InvalidAdapter, "r: '4'"),
    "r absent": ({"r": None}, InvalidAdapter, "r: nothing"),
    "alpha true": ({"lora_alpha": True}, InvalidAdapter, "lora_alpha"),
    "alpha huge": ({"lora_alpha": 1e300}, InvalidAdapter, "lora_alpha"),
    "alpha absent": ({"lora_alpha": None}, InvalidAdapter, "lora_alpha"),
    "rslora text": ({"use_rslora": "false"}, InvalidAdapter, "use_rslora"),
    "dora one": ({"use_dora": 1}, InvalidAdapter, "use_dora"),
    "a pattern that is a list": ({"rank_pattern": [1]}, InvalidAdapter, "rank_pattern"),
    "a pattern's rank true": ({"rank_pattern": {"query": True}}, InvalidAdapter, "rank_pattern 'query'"),
    "a pattern with look-ahead": ({"rank_pattern": {"(?=a)": 4}}, UnsupportedAdapter, "look-ahead"),
    "another rank": ({"r": 8}, RankMismatch, "lora_A.weight: rank 4 where the configuration says 8"),
    "a pattern that contradicts": (
        {"rank_pattern": {"1.query": 2}},
        RankMismatch,
        "layers.1.query.lora_A.weight: rank 4",
    ),
    "another kind": (
        {"peft_type": "OFT"},
        UnsupportedAdapter,
        "peft_type OFT is not supported here: adapters of peft_type LORA",
    ),
    "no kind": ({"peft_type": None}, InvalidAdapter, "peft_type"),
    "an unknown library": (
        {"auto_mapping": {"base_model_class": "M", "parent_library": "evil"}},
        UnsupportedAdapter,
        "'evil'",
    ),
    "a library that only begins like a known one": (
        {"auto_mapping": {"parent_library": "torch_evil"}},
        UnsupportedAdapter,
        "torch_evil",
    ),
    "a mapping that is a list": ({"auto_mapping": ["os"]}, UnsupportedAdapter, "auto_mapping"),
    "dora without magnitudes": ({"use_dora": True}, InvalidAdapter, "lora_magnitude_vector is missing"),
    "lora_bias without biases": ({"lora_bias": True}, InvalidAdapter, "lora_B.bias is missing"),
    "an unknown bias": ({"bias": "some"}, InvalidAdapter, "bias: 'some'"),
    "modules_to_save of numbers": ({"modules_to_save": [1]}, InvalidAdapter, "modules_to_save"),
    "a name that hides something": ({"base_model_name_or_path": "a\u202eb"}, InvalidAdapter, "base_model_name_or_path"),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    model = get_peft_model(Model(), LoraConfig(r=4, lora_alpha=6, target_modules=["query"]))
    model.save_pretrained(folder)
    edit(folder, auto_mapping=None)
    return folder


@pytest.fixture
def copy(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "copy"))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_configuration_is_refused_naming_the_key_or_the_tensor(case: str, copy: Path) -> None:
    changes, error, text = CONFIGS[case]
    edit(copy, **changes)
    with pytest.raises(error) as refusal:
        peft.read_folder(copy)
    assert text in refusal.value.message


def test_a_flood_of_unknown_keys_is_refused(copy: Path) -> None:
    edit(copy, **{f"new_{n}": True for n in range(33)})
    with pytest.raises(InvalidAdapter, match="33 unknown keys"):
        peft.read_folder(copy)


def test_target_modules_are_never_evaluated(copy: Path) -> None:
    edit(copy, target_modules="(a+)+$(", exclude_modules=["((("])
    assert peft.read_folder(copy).summary.targets == ("query",)


@pytest.mark.parametrize("library", ["transformers.models.bert.modeling_bert", "diffusers", "__main__"])
def test_known_libraries_may_be_named(library: str, copy: Path) -> None:
    edit(copy, auto_mapping={"base_model_class": "M", "parent_library": library})
    assert peft.read_folder(copy).modules


FLAGS = {
    "pissa": {"init_lora_weights": "pissa_niter_16"},
    "olora": {"init_lora_weights": "olora"},
    "corda": {"init_lora_weights": "corda"},
    "loftq": {"init_lora_weights": "loftq"},
    "alora": {"alora_invocation_tokens": [1, 2]},
    "layer_replication": {"layer_replication": [[0, 2], [1, 3]]},
    "qalora": {"use_qalora": True},
    "velora": {"velora_config": {"num_groups": 2}},
    "arrow": {"arrow_config": {"top_k": 1}},
    "fan_in_fan_out": {"fan_in_fan_out": True},
    "unknown:use_quantum_lora": {"use_quantum_lora": True},
    "unknown:init_lora_weights": {"init_lora_weights": "new"},
}


@pytest.mark.parametrize("variant", FLAGS)
def test_what_the_configuration_switches_on_is_a_variant(variant: str, copy: Path) -> None:
    edit(copy, **FLAGS[variant])
    assert peft.read_folder(copy).summary.variants == (variant,)


@pytest.mark.parametrize("value", [True, False, "gaussian", "eva", "orthogonal"])
def test_an_initialisation_that_leaves_the_base_alone_is_no_variant(value: Any, copy: Path) -> None:
    edit(copy, init_lora_weights=value, use_new_thing=None)
    assert peft.read_folder(copy).summary.variants == ()


Q = "base_model.model.layers.0.query"
TENSORS: dict[str, tuple[dict[str, torch.Tensor | None], type[AdaptersError], str]] = {
    "A without B": ({f"{Q}.lora_B.weight": None}, InvalidAdapter, f"{Q}.lora_A.weight: the lora_B"),
    "B without A": ({f"{Q}.lora_A.weight": None}, InvalidAdapter, f"{Q}.lora_B.weight: the lora_A"),
    "A of another rank": ({f"{Q}.lora_A.weight": torch.zeros(5, 8)}, RankMismatch, f"{Q}.lora_A.weight: rank 5"),
    "B of another rank": ({f"{Q}.lora_B.weight": torch.zeros(8, 3)}, RankMismatch, f"{Q}.lora_B.weight: rank 3"),
    "A of one dimension": ({f"{Q}.lora_A.weight": torch.zeros(4)}, InvalidAdapter, "don't multiply"),
    "a factor of integers": ({f"{Q}.lora_A.weight": torch.zeros(4, 8, dtype=torch.int32)}, InvalidAdapter, "dtype I32"),
    "a magnitude without dora": ({f"{Q}.lora_magnitude_vector": torch.zeros(8)}, InvalidAdapter, "use_dora"),
    "a bias without lora_bias": ({f"{Q}.lora_B.bias": torch.zeros(8)}, InvalidAdapter, "lora_bias"),
    "a bias without bias": ({f"{Q}.base_layer.bias": torch.zeros(8)}, InvalidAdapter, f"{Q}.base_layer.bias"),
    "an unknown tensor": ({"base_model.model.mystery.weight": torch.zeros(8)}, InvalidAdapter, "mystery.weight"),
    "an unknown kind of factor": ({f"{Q}.lora_E": torch.zeros(8)}, UnsupportedAdapter, "'lora_E'"),
    "a diagonal without kasa": ({f"{Q}.lora_diag": torch.zeros(4)}, InvalidAdapter, "kasa_config"),
    "one module by two names": (
        {
            f"{Q}.base_layer.lora_A.weight": torch.zeros(4, 8),
            f"{Q}.base_layer.lora_B.weight": torch.zeros(8, 4),
        },
        InvalidAdapter,
        "the module layers.0.query has",
    ),
    "an adapter's name in the key": (
        {f"{Q}.lora_A.default.weight": torch.zeros(4, 8)},
        InvalidAdapter,
        "lora_A.default",
    ),
    "no prefix": ({"layers.0.query.lora_A.weight": torch.zeros(4, 8)}, InvalidAdapter, "begins with base_model.model."),
    "two kinds of factors": (
        {f"{Q}.lora_embedding_A": torch.zeros(4, 8), f"{Q}.lora_embedding_B": torch.zeros(8, 4)},
        InvalidAdapter,
        "two kinds",
    ),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_contradict_are_refused_by_name(case: str, copy: Path) -> None:
    changes, error, text = TENSORS[case]
    kept = {name: tensor for name, tensor in changes.items() if tensor is not None}
    rewrite(copy, lambda t: (t.update(kept), [t.pop(name) for name in changes.keys() - kept.keys()]))
    with pytest.raises(error) as refusal:
        peft.read_folder(copy)
    assert text in refusal.value.message


def test_an_adapter_without_factors_is_refused(copy: Path) -> None:
    rewrite(copy, lambda t: (t.clear(), t.update({"base_model.model.lm_head.weight": torch.zeros(2, 2)})))
    with pytest.raises(InvalidAdapter, match="none of them is a factor of LORA"):
        peft.read_folder(copy)


def test_patterns_that_tell_parameters_of_one_module_apart_are_refused(save: Save) -> None:
    folder, _ = save(
        target_modules=[],
        target_parameters=["experts.gate_up_proj", "experts.down_proj"],
        rank_pattern={"experts.down_proj": 2},
    )
    with pytest.raises(UnsupportedAdapter, match="tells parameters of one module apart"):
        peft.read_folder(folder)


def test_a_missing_configuration_or_weights_are_named(copy: Path) -> None:
    (copy / "adapter_model.safetensors").rename(copy / "other.safetensors")
    with pytest.raises(InvalidAdapter, match=r"adapter_model\.safetensors: it is missing"):
        peft.read_folder(copy)
    (copy / "adapter_config.json").unlink()
    with pytest.raises(InvalidAdapter, match=r"adapter_config\.json: it is missing"):
        peft.read_folder(copy)


def test_pickled_weights_are_refused_with_the_way_to_convert_them(copy: Path) -> None:
    weights = load_file(copy / "adapter_model.safetensors")
    (copy / "adapter_model.safetensors").unlink()
    torch.save(weights, copy / "adapter_model.bin")
    with pytest.raises(UnsupportedAdapter, match="save_pretrained"):
        peft.read_folder(copy)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_under_the_name_of_safetensors_is_known_by_its_bytes(zipped: bool, copy: Path) -> None:
    torch.save({"a": torch.zeros(4)}, copy / "adapter_model.safetensors", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UnsupportedAdapter, match="weights in a zip" if zipped else "weights in a pickle"):
        peft.read_folder(copy)


def test_only_the_configuration_and_the_header_are_read(copy: Path) -> None:
    files = {path.name: path.read_bytes() for path in copy.iterdir()}
    header = struct.unpack("<Q", files["adapter_model.safetensors"][:8])[0] + 8
    asked: list[tuple[str, int]] = []

    def open_file(path: str, *, start: int, length: int) -> io.BytesIO:
        asked.append((path, start + length))
        return io.BytesIO(files[path][start : start + length])

    spec = peft.read_files({name: len(data) for name, data in files.items()}, open_file)
    assert spec == peft.read_folder(copy)
    assert {path for path, _ in asked} == {"adapter_config.json", "adapter_model.safetensors"}
    assert max(end for path, end in asked if path.endswith(".safetensors")) == header


def test_a_huge_configuration_is_refused_before_it_is_read(copy: Path) -> None:
    with (copy / "adapter_config.json").open("ab") as stream:
        stream.truncate(1 << 32)
    with pytest.raises(InvalidFile, match="are allowed"):
        peft.read_folder(copy)


def test_formats_are_detected_by_their_files() -> None:
    assert detect(["adapter_config.json", "adapter_model.safetensors"]).name == "peft"
    with pytest.raises(InvalidAdapter, match="known formats"):
        detect(["README.md", "weights.npz"])
