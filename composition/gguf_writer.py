"""llama.cpp's adapters: one GGUF file whose tensors are named after the base's.

    general.type "adapter", adapter.type "lora", adapter.lora.alpha
    blk.N.attn_q.weight.lora_a (rank, in), blk.N.attn_q.weight.lora_b (out, rank), as the package's numpy order has it

llama.cpp multiplies each layer by alpha / its rank, with one alpha for the whole file, so a layer whose scaling that
doesn't give gets the difference folded into B. Models of the Llama family keep the rows of their query and key in
another order than transformers does, and so does B. Architectures whose converter changes tensors in further ways
are refused by name.

Source: ggml-org/llama.cpp, convert_lora_to_gguf.py, conversion of LlamaModel, src/llama-adapter.cpp; gguf 0.19.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from composition.adapter_source import Adapter
from composition.layers import Layer, with_scaling
from registry.domain.errors import InvalidFile, UnsupportedAdapter
from registry.formats.gguf import read_gguf_keys
from registry.formats.json_document import JsonLimits, parse_object

# transformers' model_type -> llama.cpp's architecture, for models whose matrices are converted as they are …
_PLAIN: Mapping[str, str] = {
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
    "starcoder2": "starcoder2",
    "olmo2": "olmo2",
}
# … and for those whose query and key have their rows reordered.
_PERMUTED: Mapping[str, str] = {"llama": "llama", "mistral": "llama", "smollm3": "smollm3", "granite": "granite"}
_ROTATED = frozenset({"attn_q", "attn_k"})


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the names and the order of rows depend on."""

    name: str
    blocks: int
    heads: int
    kv_heads: int

    @property
    def is_permuted(self) -> bool:
        return self.name in _PERMUTED.values()


def read_architecture(base: Path) -> Architecture:
    """A base's architecture, from the config.json of a folder or from a GGUF file.

    Raises InvalidFile, and UnsupportedAdapter for an architecture that we can't write adapters for.
    """
    if base.is_file():
        return _of_gguf(base)
    config = base / "config.json"
    if not config.is_file():
        raise InvalidFile(str(base), "config.json", "it is missing: the base is a model's folder, or a GGUF file")
    with config.open("rb") as stream:
        document = parse_object(stream.read(JsonLimits().size + 1), path=str(config))
    kind = document.get("model_type")
    name = {**_PLAIN, **_PERMUTED}.get(kind) if isinstance(kind, str) else None
    if name is None:
        raise _unknown(str(base), str(kind))
    heads = _count(document, "num_attention_heads", config)
    kv_heads = _count(document, "num_key_value_heads", config) if document.get("num_key_value_heads") else heads
    return Architecture(name, _count(document, "num_hidden_layers", config), heads, kv_heads)


def _of_gguf(base: Path) -> Architecture:
    keys = read_gguf_keys(base)
    name = keys.get("general.architecture")
    if not isinstance(name, str) or name not in {*_PLAIN.values(), *_PERMUTED.values()}:
        raise _unknown(str(base), str(name))
    heads = _count(keys, f"{name}.attention.head_count", base)
    many = f"{name}.attention.head_count_kv"
    kv_heads = _count(keys, many, base) if keys.get(many) else heads
    return Architecture(name, _count(keys, f"{name}.block_count", base), heads, kv_heads)


def _unknown(base: str, kind: str) -> UnsupportedAdapter:
    known = ", ".join(sorted({*_PLAIN, *_PERMUTED}))
    return UnsupportedAdapter(base, f"the architecture {kind[:80]}", f"GGUF adapters are written for {known}")


def _count(document: Mapping[str, Any], key: str, path: Path) -> int:
    value = document.get(key)
    if type(value) is not int or not 0 < value <= 1 << 20:
        raise InvalidFile(str(path), key, f"{str(value)[:40]} is not a possible number")
    return value


def write_gguf(path: Path, adapter: Adapter, architecture: Architecture) -> Sequence[Layer]:
    """Write an adapter and return its layers as written.

    Raises UnsupportedAdapter for a layer that the architecture doesn't have.
    """
    from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map  # lazy: start-up time

    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = get_tensor_name_map(arch, architecture.blocks)
    alpha = _common_alpha(adapter.layers)
    written: list[Layer] = []
    writer = GGUFWriter(path, architecture.name)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    if adapter.base_name:
        writer.add_string("general.base_model.0.name", adapter.base_name)
        writer.add_uint32("general.base_model.count", 1)
    for layer in adapter.layers:
        target = names.get_name(f"{layer.name}.weight", try_suffixes=(".weight",))
        if target is None or layer.A.ndim != 2 or target == "token_embd.weight":
            raise UnsupportedAdapter(
                layer.name, "this layer", f"llama.cpp's {architecture.name} has no matrix that an adapter can change"
            )
        prepared = _prepared(layer, target, alpha, architecture)
        written.append(prepared)
        for suffix, factor in (("lora_a", prepared.A), ("lora_b", prepared.B)):
            writer.add_tensor(f"{target}.{suffix}", factor.contiguous().numpy())
    _finish(writer)
    return written


def _finish(writer: Any) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _common_alpha(layers: Sequence[Layer]) -> float:
    """The alpha of most layers. Zero means to llama.cpp that there is none, and is left to layers of no effect."""
    counts = Counter(layer.alpha for layer in layers if layer.alpha)
    return float(counts.most_common(1)[0][0]) if counts else 1.0


def _prepared(layer: Layer, target: str, alpha: float, architecture: Architecture) -> Layer:
    scaled = with_scaling(layer, alpha / layer.rank)
    a, b = (_portable(factor) for factor in (scaled.A, scaled.B))
    kind = target.split(".")[-2]
    if architecture.is_permuted and kind in _ROTATED:
        b = permute_rows(b, architecture.heads if kind == "attn_q" else architecture.kv_heads, layer.name)
    return Layer(layer.name, a, b, scaled.scaling)


def _portable(factor: Tensor) -> Tensor:
    """Half or single precision, which every backend multiplies; bfloat16 becomes single precision, unrounded."""
    return factor if factor.dtype in (torch.float16, torch.float32) else factor.float()


def permute_rows(b: Tensor, heads: int, name: str) -> Tensor:
    """B (out, rank) with each head's two halves interleaved: row i of either half side by side."""
    if b.shape[0] % (2 * heads):
        raise UnsupportedAdapter(name, f"{b.shape[0]} outputs", f"they don't divide into {heads} heads of two halves")
    return b.reshape(heads, 2, -1, b.shape[1]).transpose(1, 2).reshape(b.shape)
