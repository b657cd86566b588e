"""What the tensors of a base are called elsewhere: tables from a checkpoint's names to those of the model's modules.

A GGUF file says `blk.3.attn_q.weight` where an adapter says `model.layers.3.self_attn.q_proj`. One table a family;
`{n}` stands for the layer's number.

Source: gguf 0.19, `gguf.constants.MODEL_ARCH`, `TENSOR_NAMES`, and llama.cpp's convert_hf_to_gguf.py.
"""

import re
from collections.abc import Iterator, Mapping

_LLAMA = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{n}.attn_norm": "model.layers.{n}.input_layernorm",
    "blk.{n}.attn_q": "model.layers.{n}.self_attn.q_proj",
    "blk.{n}.attn_k": "model.layers.{n}.self_attn.k_proj",
    "blk.{n}.attn_v": "model.layers.{n}.self_attn.v_proj",
    "blk.{n}.attn_qkv": "model.layers.{n}.self_attn.qkv_proj",
    "blk.{n}.attn_output": "model.layers.{n}.self_attn.o_proj",
    "blk.{n}.attn_q_norm": "model.layers.{n}.self_attn.q_norm",
    "blk.{n}.attn_k_norm": "model.layers.{n}.self_attn.k_norm",
    "blk.{n}.ffn_norm": "model.layers.{n}.post_attention_layernorm",
    "blk.{n}.ffn_gate": "model.layers.{n}.mlp.gate_proj",
    "blk.{n}.ffn_up": "model.layers.{n}.mlp.up_proj",
    "blk.{n}.ffn_down": "model.layers.{n}.mlp.down_proj",
    "blk.{n}.ffn_gate_inp": "model.layers.{n}.mlp.gate",
    "blk.{n}.ffn_gate_exps": "model.layers.{n}.mlp.experts.gate_proj",
    "blk.{n}.ffn_up_exps": "model.layers.{n}.mlp.experts.up_proj",
    "blk.{n}.ffn_down_exps": "model.layers.{n}.mlp.experts.down_proj",
}
_PHI3 = {**_LLAMA, "blk.{n}.ffn_up": "model.layers.{n}.mlp.gate_up_proj"}
_MIXTRAL = {
    "blk.{n}.ffn_gate_inp": "model.layers.{n}.block_sparse_moe.gate",
    "blk.{n}.ffn_gate_exps": "model.layers.{n}.block_sparse_moe.experts.w1",
    "blk.{n}.ffn_up_exps": "model.layers.{n}.block_sparse_moe.experts.w3",
    "blk.{n}.ffn_down_exps": "model.layers.{n}.block_sparse_moe.experts.w2",
}
_BERT = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
    "blk.{n}.attn_q": "encoder.layer.{n}.attention.self.query",
    "blk.{n}.attn_k": "encoder.layer.{n}.attention.self.key",
    "blk.{n}.attn_v": "encoder.layer.{n}.attention.self.value",
    "blk.{n}.attn_output": "encoder.layer.{n}.attention.output.dense",
    "blk.{n}.attn_output_norm": "encoder.layer.{n}.attention.output.LayerNorm",
    "blk.{n}.ffn_up": "encoder.layer.{n}.intermediate.dense",
    "blk.{n}.ffn_down": "encoder.layer.{n}.output.dense",
    "blk.{n}.layer_output_norm": "encoder.layer.{n}.output.LayerNorm",
}
_GPT2 = {
    "token_embd": "transformer.wte",
    "position_embd": "transformer.wpe",
    "output": "lm_head",
    "output_norm": "transformer.ln_f",
    "blk.{n}.attn_norm": "transformer.h.{n}.ln_1",
    "blk.{n}.attn_qkv": "transformer.h.{n}.attn.c_attn",
    "blk.{n}.attn_output": "transformer.h.{n}.attn.c_proj",
    "blk.{n}.ffn_norm": "transformer.h.{n}.ln_2",
    "blk.{n}.ffn_up": "transformer.h.{n}.mlp.c_fc",
    "blk.{n}.ffn_down": "transformer.h.{n}.mlp.c_proj",
}

# GGUF's general.architecture -> the names that its tensors have in transformers. The Mixtral names come on top of
# Llama's, since both are "llama" there.
_GGUF: Mapping[str, tuple[Mapping[str, str], ...]] = {
    **dict.fromkeys(
        ("llama", "llama4", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "gemma", "gemma2", "gemma3", "mistral3",
         "granite", "granitemoe", "olmo2", "olmoe", "smollm3", "stablelm", "starcoder2", "command-r", "cohere2",
         "exaone"),
        (_LLAMA, _MIXTRAL),
    ),
    "phi3": (_PHI3,),
    "bert": (_BERT,),
    "nomic-bert": (_BERT,),
    "gpt2": (_GPT2,),
}  # fmt: skip

# transformers 5 fuses these experts when it loads a checkpoint; adapters then target the fused parameter.
# Parameter of the fused module -> names, in an expert of the checkpoint, whose rows it stacks.
FUSED_EXPERTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "down_proj": (("down_proj",), ("w2",)),
}
FUSED_HOLDERS = {"mlp": "block_sparse_moe"}  # the module that holds the experts -> its name in older checkpoints

_LAYER = re.compile(r"\Ablk\.([0-9]+)\.")


def other_names(model_type: str | None, tensor: str) -> Iterator[str]:
    """The names that a tensor of a GGUF file has in transformers; none for an unknown family or tensor."""
    module, _, parameter = tensor.rpartition(".")
    layer = _LAYER.match(tensor)
    number = layer[1] if layer else ""
    generic = _LAYER.sub("blk.{n}.", module)
    for table in _GGUF.get(model_type or "", ()):
        if generic in table:
            yield f"{table[generic].replace('{n}', number)}.{parameter}"
