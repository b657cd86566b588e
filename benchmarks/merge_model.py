"""The base of `benchmarks.merge`: a Llama in bfloat16 that transformers loads, in three shards, and a LoRA of it."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARDS, RANK, WIDTH, INNER, TOKENS = 3, 16, 2048, 5632, 32_000
SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH, WIDTH),
    "self_attn.v_proj": (WIDTH, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (INNER, WIDTH),
    "mlp.up_proj": (INNER, WIDTH),
    "mlp.down_proj": (WIDTH, INNER),
}
_LAYER = 2 * sum(out * inside for out, inside in SHAPES.values())  # bytes
_ENDS = 2 * 2 * TOKENS * WIDTH


def write_model(folder: Path, total: int) -> None:
    """A base of about `total` bytes in `base`, and an adapter of every linear layer in `adapter`."""
    layers = max(SHARDS, round((total - _ENDS) / _LAYER))
    generator = torch.Generator().manual_seed(1)
    (folder / "base").mkdir(parents=True)
    (folder / "adapter").mkdir()
    weight_map: dict[str, str] = {}
    shapes = list(_shapes(layers))
    for shard in range(SHARDS):
        name = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
        held = shapes[shard * len(shapes) // SHARDS : (shard + 1) * len(shapes) // SHARDS]
        tensors = {key: (0.02 * torch.randn(*shape, generator=generator)).bfloat16() for key, shape in held}
        save_file(tensors, folder / "base" / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "base" / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "base" / "config.json").write_text(json.dumps(_config(layers)))
    _write_adapter(folder / "adapter", layers, generator)


def _shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (TOKENS, WIDTH)
    for layer in range(layers):
        for part, shape in SHAPES.items():
            yield f"model.layers.{layer}.{part}.weight", shape
        yield f"model.layers.{layer}.input_layernorm.weight", (WIDTH,)
        yield f"model.layers.{layer}.post_attention_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (TOKENS, WIDTH)


def _config(layers: int) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": layers,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": TOKENS,
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
    }


def _write_adapter(folder: Path, layers: int, generator: torch.Generator) -> None:
    tensors = {}
    for layer in range(layers):
        for part, (out, inside) in SHAPES.items():
            path = f"base_model.model.model.layers.{layer}.{part}.lora_"
            tensors[f"{path}A.weight"] = 0.01 * torch.randn(RANK, inside, generator=generator)
            tensors[f"{path}B.weight"] = 0.01 * torch.randn(out, RANK, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "bench/llama",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "target_modules": sorted(part.rpartition(".")[2] for part in SHAPES),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("bytes", type=int)
    options = parser.parse_args()
    write_model(options.folder, options.bytes)
