"""How kohya's sd-scripts call the layers of Stable Diffusion 1.5, SDXL and Flux, and what diffusers calls them.

A key is a prefix for the component and the layer's path with "_" for every ".", so the path is put together again
from the words that its components may be. SDXL's U-Net goes by the names of Stability's own code (`input_blocks…`),
which are translated one to one; Flux goes by Black Forest Labs' (`double_blocks…`), whose fused layers have no
single counterpart in diffusers, so they stay as they are.

    lora_unet_    unet, or transformer for Flux
    lora_te_      text_encoder                    lora_te1_   the same, beside another
    lora_te2_     text_encoder_2 (SDXL)           lora_te3_   text_encoder_2 (Flux: T5)

Source: kohya-ss/sd-scripts, networks/lora.py, lora_flux.py, library/sdxl_model_util.py; diffusers 0.42,
loaders/lora_conversion_utils.py.
"""

from collections.abc import Iterator, Sequence
from enum import Enum


class Family(Enum):
    """Whose names a file has."""

    SD = "stable-diffusion-v1"
    SDXL = "stable-diffusion-xl-v1-base"
    FLUX = "flux-1-dev"


# Components of a path that hold a "_" themselves, and those that don't; any number is one too.
_COMPOUND = (
    "down_blocks", "up_blocks", "mid_block", "transformer_blocks", "to_q", "to_k", "to_v", "to_out", "proj_in",
    "proj_out", "time_emb_proj", "conv_shortcut", "conv_in", "conv_out", "time_embedding", "add_embedding",
    "linear_1", "linear_2", "input_blocks", "middle_block", "output_blocks", "in_layers", "out_layers", "emb_layers",
    "skip_connection", "time_embed", "label_emb", "text_model", "self_attn", "q_proj", "k_proj", "v_proj", "out_proj",
    "text_projection", "wi_0", "wi_1", "double_blocks", "single_blocks", "img_attn", "txt_attn", "img_mlp", "txt_mlp",
    "img_mod", "txt_mod", "img_in", "txt_in", "time_in", "vector_in", "guidance_in", "in_layer", "out_layer",
    "final_layer", "adaLN_modulation",
)  # fmt: skip
_SIMPLE = frozenset(
    {
        "attentions", "resnets", "downsamplers", "upsamplers", "attn1", "attn2", "ff", "net", "proj", "conv", "conv1",
        "conv2", "op", "out", "encoder", "layers", "mlp", "fc1", "fc2", "block", "layer", "SelfAttention",
        "DenseReluDense", "q", "k", "v", "o", "wi", "wo", "qkv", "lin", "linear", "linear1", "linear2", "modulation",
    }
)  # fmt: skip
_WORDS = {tuple(word.split("_")): word for word in _COMPOUND}
_LONGEST = max(len(words) for words in _WORDS)

_UNET_ROOTS = frozenset({"down_blocks", "up_blocks", "mid_block", "conv_in", "conv_out", "time_embedding"})
_ADDED_ROOTS = frozenset({"add_embedding"})
_STABILITY_ROOTS = frozenset({"input_blocks", "middle_block", "output_blocks", "time_embed", "label_emb", "out"})
_FLUX_ROOTS = frozenset(
    {"double_blocks", "single_blocks", "img_in", "txt_in", "time_in", "vector_in", "guidance_in", "final_layer"}
)
_ENCODERS = {"lora_te_": "text_encoder", "lora_te1_": "text_encoder", "lora_te2_": "text_encoder_2"}
_T5 = "lora_te3_"
_UNET = "lora_unet_"
PREFIXES = (_UNET, *_ENCODERS, _T5)


def canonical_name(flat: str) -> str | None:
    """`lora_unet_mid_block_attentions_0_proj_in` -> `unet.mid_block.attentions.0.proj_in`; None if it is none."""
    prefix = next((prefix for prefix in PREFIXES if flat.startswith(prefix)), "")
    path = _split(flat.removeprefix(prefix).split("_")) if prefix else None
    if not path:
        return None
    if prefix == _UNET:
        return _image_layer(path)
    if prefix == _T5:
        return ".".join(("text_encoder_2", *path)) if path[:2] == ["encoder", "block"] else None
    if path[:2] == ["encoder", "layers"]:  # a trainer on transformers 5, whose CLIP has no `text_model` any more
        path = ["text_model", *path]
    return ".".join((_ENCODERS[prefix], *path)) if path[0] in {"text_model", "text_projection"} else None


def flat_name(name: str, family: Family) -> str | None:
    """What kohya calls a layer in a file of this family, or None if it has no name for it."""
    component, _, path = name.partition(".")
    if component == "unet" and family is Family.SDXL:
        path = _renamed(path, _FROM_DIFFUSERS, _INNER_FROM_DIFFUSERS) or ""
    for prefix in PREFIXES:
        flat = prefix + path.replace(".", "_")
        if _writes(prefix, component, family) and canonical_name(flat) == name:
            return flat
    return None


def _writes(prefix: str, component: str, family: Family) -> bool:
    wanted = {
        "unet": _UNET if family is not Family.FLUX else "",
        "transformer": _UNET if family is Family.FLUX else "",
        "text_encoder": "lora_te_" if family is Family.SD else "lora_te1_",
        "text_encoder_2": {Family.SD: "", Family.SDXL: "lora_te2_", Family.FLUX: _T5}[family],
    }
    return wanted.get(component) == prefix


def is_stability(flat: str) -> bool:
    """Whether a key has the names of Stability's code: SDXL's U-Net."""
    path = _split(flat.removeprefix(_UNET).split("_")) if flat.startswith(_UNET) else None
    return bool(path) and path is not None and path[0] in _STABILITY_ROOTS


def kernel_of(name: str, *, is_sdxl: bool) -> tuple[int, ...]:
    """The kernel of a U-Net's layer, or () for a linear one: its projections around attention are that in SDXL."""
    last = name.rpartition(".")[2]
    if not name.startswith("unet."):
        return ()
    if last in {"conv", "conv1", "conv2", "conv_in", "conv_out"}:
        return (3, 3)
    pointwise = {"conv_shortcut"} if is_sdxl else {"conv_shortcut", "proj_in", "proj_out"}
    return (1, 1) if last in pointwise else ()


def _split(words: Sequence[str]) -> list[str] | None:
    """Put a path's components together again; None where a word is none that we know."""
    path: list[str] = []
    position = 0
    while position < len(words):
        for length in range(min(_LONGEST, len(words) - position), 0, -1):
            taken = tuple(words[position : position + length])
            word = _WORDS.get(taken) or (taken[0] if length == 1 and _is_simple(taken[0]) else None)
            if word:
                path.append(word)
                position += length
                break
        else:
            return None
    return path


def _is_simple(word: str) -> bool:
    return word in _SIMPLE or (word.isascii() and word.isdecimal())


def _image_layer(path: list[str]) -> str | None:
    root = path[0]
    if root in _FLUX_ROOTS:
        return ".".join(("transformer", *path))
    if root in _STABILITY_ROOTS:
        renamed = _renamed(".".join(path), _TO_DIFFUSERS, _INNER_TO_DIFFUSERS)
        return f"unet.{renamed}" if renamed else None
    return ".".join(("unet", *path)) if root in _UNET_ROOTS | _ADDED_ROOTS else None


# -- SDXL's U-Net -----------------------------------------------------------------------------------------------------

_PER_BLOCK = 3  # of Stability's blocks: two layers and what changes the size


def _blocks() -> Iterator[tuple[str, str]]:
    """(Stability's name, diffusers' name) of every block."""
    yield from (("input_blocks.0.0", "conv_in"), ("out.2", "conv_out"))
    yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
    yield from (("label_emb.0.0", "add_embedding.linear_1"), ("label_emb.0.2", "add_embedding.linear_2"))
    yield from (("middle_block.0", "mid_block.resnets.0"), ("middle_block.2", "mid_block.resnets.1"))
    yield "middle_block.1", "mid_block.attentions.0"
    for number in range(1, 3 * _PER_BLOCK):
        block, layer = divmod(number - 1, _PER_BLOCK)
        if layer == _PER_BLOCK - 1:
            yield f"input_blocks.{number}.0.op", f"down_blocks.{block}.downsamplers.0.conv"
        else:
            yield f"input_blocks.{number}.0", f"down_blocks.{block}.resnets.{layer}"
            yield f"input_blocks.{number}.1", f"down_blocks.{block}.attentions.{layer}"
    for number in range(3 * _PER_BLOCK):
        block, layer = divmod(number, _PER_BLOCK)
        yield f"output_blocks.{number}.0", f"up_blocks.{block}.resnets.{layer}"
        yield f"output_blocks.{number}.1", f"up_blocks.{block}.attentions.{layer}"
        if layer == _PER_BLOCK - 1:
            yield f"output_blocks.{number}.2", f"up_blocks.{block}.upsamplers.0"


_TO_DIFFUSERS = dict(_blocks())
_FROM_DIFFUSERS = {diffusers: stability for stability, diffusers in _TO_DIFFUSERS.items()}
_INNER_TO_DIFFUSERS = {
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_INNER_FROM_DIFFUSERS = {diffusers: stability for stability, diffusers in _INNER_TO_DIFFUSERS.items()}


def _renamed(path: str, blocks: dict[str, str], inner: dict[str, str]) -> str | None:
    """A path with its block renamed, and what is inside a residual block too; None where no block begins it."""
    block = path
    while block not in blocks:
        block = block.rpartition(".")[0]
        if not block:
            return None
    rest = path[len(block) + 1 :]
    if "resnets" in block or "resnets" in blocks[block]:
        if rest not in inner:
            return None
        rest = inner[rest]
    return f"{blocks[block]}.{rest}" if rest else blocks[block]
