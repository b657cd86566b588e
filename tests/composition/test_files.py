"""Loading and saving: hostile streams, refused kinds, canonical configuration, deterministic bytes."""

import io
import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composition.engine import compose
from composition.files import CONFIG_NAME, WEIGHTS_NAME, load_adapter, save_composition
from registry.domain.errors import DigestMismatch, InvalidAdapter, InvalidFile, UnsupportedAdapter
from registry.domain.records import FileEntry
from registry.formats.peft import read_folder
from tests.composition.cases import by_digest, dense, load, minilm, pin, random_adapter, weights_entry
from tests.factories import EXAMPLES, MODULES, write_adapter

SENTIMENT = EXAMPLES / "minilm-sentiment-r8"


def save(text: str, folder: Path, dtype: str = "float32", **adapters: object) -> dict[str, object]:
    """Compose and save; returns the configuration."""
    inputs = by_digest(**adapters) or by_digest(a=random_adapter("a"), b=random_adapter("b", rank=2))  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    save_composition(compose(pin(text, dtype), inputs, device="cpu"), folder)
    config: dict[str, object] = json.loads((folder / CONFIG_NAME).read_text())
    return config


# -- reading ----------------------------------------------------------------------------------------------------------


def test_factors_are_read_as_they_are_stored_with_their_scaling_and_widened_to_compute() -> None:
    stored = load_file(SENTIMENT / WEIGHTS_NAME)
    module = minilm("sentiment-r8").modules[0]
    assert torch.equal(module.delta.A, stored[f"base_model.model.{module.name}.lora_A.weight"])
    assert module.delta.scaling == 2.0
    bf16 = minilm("genre-r16-rslora-bf16").modules[0]
    assert bf16.delta.A.dtype == torch.bfloat16
    assert bf16.true_delta.A.dtype == torch.float32 and torch.equal(bf16.true_delta.dense(), bf16.delta.dense())
    assert bf16.delta.scaling == 4.0  # 16 / sqrt(16)


@pytest.mark.parametrize("damage", ["flipped bit in the data", "flipped bit in the header", "cut off", "longer"])
def test_bytes_that_are_not_what_was_pushed_are_refused(damage: str) -> None:
    data = bytearray((SENTIMENT / WEIGHTS_NAME).read_bytes())
    if damage == "flipped bit in the data":
        data[-5] ^= 1
    elif damage == "flipped bit in the header":
        data[9] ^= 1
    elif damage == "cut off":
        del data[-100:]
    else:
        data += b"\0"
    with pytest.raises(DigestMismatch, match=r"demo/x@v1 adapter_model\.safetensors"):
        load_adapter(io.BytesIO(data), read_folder(SENTIMENT), subject="demo/x@v1", file=weights_entry(SENTIMENT))


def entry_of(data: bytes) -> FileEntry:
    return FileEntry(WEIGHTS_NAME, sha256(data).hexdigest(), len(data))


def test_a_file_that_breaks_its_specification_is_refused_even_with_the_right_digest() -> None:
    data = b"\x10\0\0\0\0\0\0\0" + b"x" * 16
    with pytest.raises(InvalidFile):
        load_adapter(io.BytesIO(data), read_folder(SENTIMENT), subject="demo/x@v1", file=entry_of(data))


def test_factors_of_another_adapter_are_refused() -> None:
    other = EXAMPLES / "minilm-sentiment-rank-pattern"
    with (other / WEIGHTS_NAME).open("rb") as stream, pytest.raises(InvalidAdapter, match="no such tensor of shape"):
        load_adapter(stream, read_folder(SENTIMENT), subject="demo/x@v1", file=weights_entry(other))


def test_a_factor_that_is_not_finite_is_refused_naming_the_tensor(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "toy")
    tensors = load_file(folder / WEIGHTS_NAME)
    name = f"base_model.model.model.{MODULES[1]}.lora_B.weight"
    tensors[name][0, 0] = float("nan")
    save_file(tensors, folder / WEIGHTS_NAME)
    with pytest.raises(InvalidAdapter, match=r"layers\.0\.v_proj\.lora_B\.weight.*NaN"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("minilm-debian-r4-dora-fp16", "dora"),
        ("minilm-wordnet-seqcls-r8", "modules_to_save"),
    ],
)
def test_a_kind_that_cannot_be_composed_is_refused_by_name(name: str, variant: str) -> None:
    with pytest.raises(UnsupportedAdapter) as caught:
        load(EXAMPLES / name)
    assert caught.value.variant == variant
    assert caught.value.subject == f"{name}@v1"


@pytest.mark.parametrize(
    ("config", "variant"),
    [
        ({"init_lora_weights": "pissa"}, "pissa"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa"),
        ({"init_lora_weights": "olora"}, "olora"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"alora_invocation_tokens": [1, 2]}, "alora"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"bias": "all"}, "bias"),
        ({"a_key_from_the_future": True}, "unknown:a_key_from_the_future"),
    ],
)
def test_a_configuration_that_changes_the_meaning_is_refused_by_name(
    tmp_path: Path, config: dict[str, object], variant: str
) -> None:
    with pytest.raises(UnsupportedAdapter) as caught:
        load(write_adapter(tmp_path / "toy", **config))
    assert caught.value.variant == variant


@pytest.mark.parametrize("kind", ["saved", "tokens", "bias", "kind of the future"])
def test_a_module_of_a_kind_that_is_not_combined_is_refused(kind: str) -> None:
    spec = read_folder(SENTIMENT)
    odd = replace(spec, modules=(replace(spec.modules[0], kind=kind), *spec.modules[1:]))
    with pytest.raises(UnsupportedAdapter, match="demo/x@v1"):
        load_adapter(io.BytesIO(), odd, subject="demo/x@v1", file=entry_of(b""))


def test_a_tensor_that_no_module_knows_is_refused() -> None:
    spec = read_folder(SENTIMENT)
    fewer = replace(spec, modules=spec.modules[1:])
    with (
        (SENTIMENT / WEIGHTS_NAME).open("rb") as stream,
        pytest.raises(UnsupportedAdapter, match="belongs to no factor"),
    ):
        load_adapter(stream, fewer, subject="demo/x@v1", file=weights_entry(SENTIMENT))


# -- writing ----------------------------------------------------------------------------------------------------------


def test_the_configuration_says_everything_explicitly(tmp_path: Path) -> None:
    config = save("t/a + t/b", tmp_path)
    assert config["r"] == config["lora_alpha"] == 5
    assert (config["use_rslora"], config["use_dora"], config["init_lora_weights"]) == (False, False, True)
    assert (config["rank_pattern"], config["alpha_pattern"]) == ({}, {})
    assert config["target_modules"] == ["layers.0.q", "layers.0.v", "layers.1.q"]
    assert (config["base_model_name_or_path"], config["task_type"]) == ("org/base", "FEATURE_EXTRACTION")


def test_ranks_that_differ_are_anchored_patterns_that_match_one_module(tmp_path: Path) -> None:
    config = save("t/a + t/b", tmp_path, a=random_adapter("a"), b=random_adapter("b", modules=("layers.1.q",)))
    assert (config["r"], config["lora_alpha"]) == (6, 6)
    assert config["rank_pattern"] == config["alpha_pattern"] == {r"^layers\.0\.q": 3, r"^layers\.0\.v": 3}
    spec = read_folder(tmp_path)
    assert {module.name: (module.rank, module.scaling) for module in spec.modules} == {
        "layers.0.q": (3, 1.0),
        "layers.0.v": (3, 1.0),
        "layers.1.q": (6, 1.0),
    }


def test_what_was_saved_loads_again_with_the_same_deltas(tmp_path: Path) -> None:
    inputs = by_digest(a=random_adapter("a"), b=random_adapter("b"))
    result = compose(pin("t/a - 0.3*t/b"), inputs, device="cpu")
    save_composition(result, tmp_path)
    again = {module.name: module.delta.dense() for module in load(tmp_path).modules}
    assert again.keys() == dense(result).keys()
    assert all(torch.equal(again[name], delta) for name, delta in dense(result).items())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_same_recipe_over_the_same_inputs_gives_the_same_bytes(tmp_path: Path, dtype: str) -> None:
    for name, text in (("one", "truncate(t/a + 0.5*t/b, rank=2)"), ("two", "truncate(0.5*t/b + t/a, rank=2)")):
        save(text, tmp_path / name, dtype)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert {str(t.dtype) for t in load_file(tmp_path / "one" / WEIGHTS_NAME).values()} == {f"torch.{dtype}"}
