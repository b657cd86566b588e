"""llama.cpp's adapters, read with its own package: names, alpha, and the order of the rows of query and key."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from composition.adapter_source import Adapter, read_adapter
from composition.convert import convert
from composition.gguf_writer import Architecture, permute_rows, read_architecture, write_gguf
from composition.layers import Layer
from registry.domain.errors import InvalidFile, UnsupportedAdapter
from tests.factories import EXAMPLES, minilm_folder, smollm2_file

GLOSS = EXAMPLES / "smollm2-gloss-r8"


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}


def value(path: Path, key: str) -> object:
    field = gguf.GGUFReader(path).get_field(key)
    assert field is not None
    return field.contents()


def model(folder: Path, kind: str = "llama", heads: int = 2, kv_heads: int = 1) -> Path:
    folder.mkdir()
    config = {
        "model_type": kind,
        "num_hidden_layers": 2,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def layer(name: str, out: int, *, rank: int = 2, scaling: float = 2.0, dtype: torch.dtype = torch.float32) -> Layer:
    generator = torch.Generator().manual_seed(len(name))
    a, b = torch.randn(rank, 6, generator=generator), torch.randn(out, rank, generator=generator)
    return Layer(f"model.layers.1.{name}", a.to(dtype), b.to(dtype), scaling)


def adapter(*layers: Layer) -> Adapter:
    return Adapter(layers, "peft", "org/base", {}, ())


def test_the_example_becomes_what_llama_cpp_loads(tmp_path: Path) -> None:
    convert(GLOSS, tmp_path / "gloss.gguf", "gguf", base=smollm2_file())
    path = tmp_path / "gloss.gguf"
    assert value(path, "general.type") == "adapter"
    assert value(path, "adapter.type") == "lora"
    assert value(path, "general.architecture") == "llama"
    assert value(path, "adapter.lora.alpha") == 16.0
    found = tensors(path)
    sources = {item.name: item for item in read_adapter(GLOSS).layers}
    assert len(found) == 2 * len(sources)
    source = sources["model.layers.3.self_attn.v_proj"]
    assert np.array_equal(found["blk.3.attn_v.weight.lora_a"], source.A.float().numpy())
    assert np.array_equal(found["blk.3.attn_v.weight.lora_b"], source.B.float().numpy())


def rotated(weights: torch.Tensor, heads: int, *, halves: bool) -> torch.Tensor:
    """Rows (heads · size) turned by a rotary embedding: pairs are the halves' rows, or neighbours."""
    size = weights.shape[0] // heads
    angles = torch.arange(1.0, size // 2 + 1)
    rows = weights.reshape(heads, size, -1)
    first, second = (rows[:, : size // 2], rows[:, size // 2 :]) if halves else (rows[:, ::2], rows[:, 1::2])
    cos, sin = angles.cos()[None, :, None], angles.sin()[None, :, None]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=1).reshape(weights.shape)


@pytest.mark.parametrize("heads", [1, 2, 3])
def test_reordered_rows_meet_llama_cpps_rotation_as_transformers_meet_theirs(heads: int) -> None:
    b = torch.randn(heads * 8, 4)
    # The transformers way on the rows as they are is llama.cpp's way on the reordered ones, pair by pair.
    torch.testing.assert_close(
        rotated(permute_rows(b, heads, "q"), heads, halves=False), rotated(b, heads, halves=True)
    )


def test_query_and_key_are_reordered_by_their_own_heads_and_nothing_else_is(tmp_path: Path) -> None:
    layers = [layer(f"self_attn.{part}_proj", 16 if part == "q" else 8) for part in ("q", "k", "v")]
    write_gguf(tmp_path / "a.gguf", adapter(*layers), Architecture("llama", 2, 4, 2))
    found = tensors(tmp_path / "a.gguf")
    q, k, v = layers
    assert np.array_equal(found["blk.1.attn_q.weight.lora_b"], permute_rows(q.B, 4, "").numpy())
    assert np.array_equal(found["blk.1.attn_k.weight.lora_b"], permute_rows(k.B, 2, "").numpy())
    assert np.array_equal(found["blk.1.attn_v.weight.lora_b"], v.B.numpy())
    write_gguf(tmp_path / "b.gguf", adapter(*layers), Architecture("qwen2", 2, 4, 2))
    assert np.array_equal(tensors(tmp_path / "b.gguf")["blk.1.attn_q.weight.lora_b"], q.B.numpy())


def test_llama_cpps_one_alpha_gives_every_layer_its_scaling(tmp_path: Path) -> None:
    layers = [layer("mlp.up_proj", 8), layer("mlp.down_proj", 8), layer("mlp.gate_proj", 8, rank=3, scaling=0.7)]
    write_gguf(tmp_path / "a.gguf", adapter(*layers), Architecture("llama", 2, 4, 2))
    found = tensors(tmp_path / "a.gguf")
    alpha = value(tmp_path / "a.gguf", "adapter.lora.alpha")
    assert alpha == 4.0
    for item, name in zip(layers, ("ffn_up", "ffn_down", "ffn_gate"), strict=True):
        a, b = found[f"blk.1.{name}.weight.lora_a"], found[f"blk.1.{name}.weight.lora_b"]
        delta = 4.0 / item.rank * (b.astype(np.float64) @ a)
        np.testing.assert_allclose(
            delta, item.scaling * (item.B.double() @ item.A.double()).numpy(), rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(("dtype", "stored"), [(torch.float16, np.float16), (torch.bfloat16, np.float32)])
def test_halves_are_stored_so_that_every_backend_multiplies_them(
    dtype: torch.dtype, stored: type, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "a.gguf", adapter(layer("mlp.up_proj", 8, dtype=dtype)), Architecture("qwen2", 2, 4, 2))
    assert {tensor.dtype.type for tensor in tensors(tmp_path / "a.gguf").values()} == {stored}


def test_the_architecture_is_read_from_a_folder_and_from_a_gguf_file(tmp_path: Path) -> None:
    assert read_architecture(model(tmp_path / "m", "mistral")) == Architecture("llama", 2, 2, 1)
    assert read_architecture(smollm2_file()) == Architecture("llama", 30, 9, 3)


def test_what_llama_cpp_has_no_place_for_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedAdapter, match="the architecture bert"):
        read_architecture(minilm_folder())
    with pytest.raises(InvalidFile, match=r"config\.json"):
        read_architecture(tmp_path)
    with pytest.raises(InvalidFile, match="num_attention_heads"):
        read_architecture(model(tmp_path / "m", heads=-1))
    strange = Layer("model.layers.1.self_attn.other", torch.ones(2, 6), torch.ones(8, 2), 1.0)
    with pytest.raises(UnsupportedAdapter, match=r"self_attn\.other"):
        write_gguf(tmp_path / "a.gguf", adapter(strange), Architecture("llama", 2, 4, 2))
    with pytest.raises(UnsupportedAdapter, match="don't divide"):
        write_gguf(tmp_path / "b.gguf", adapter(layer("self_attn.q_proj", 9)), Architecture("llama", 2, 4, 2))


def test_the_same_adapter_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        convert(GLOSS, tmp_path / name, "gguf", base=smollm2_file())
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
