"""Flux's layers in Black Forest Labs' names, which kohya uses, and in diffusers', which PEFT and diffusers use.

The first fuses what the second keeps apart: query, key and value of both streams, and in the single blocks the MLP's
input besides. Going over splits or joins rows of B, which is exact.

Source: black-forest-labs/flux, modules/layers.py; diffusers 0.42, loaders/lora_conversion_utils.py.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from composition.layers import Layer, join_rows, split_rows
from registry.domain.errors import UnsupportedAdapter

HIDDEN = 3072
DOUBLE_BLOCKS = 19
SINGLE_BLOCKS = 38

_ROOT = "transformer."
_MLP_RATIO = 4  # outputs of a single block's MLP for each of its hidden units


@dataclass(frozen=True, slots=True)
class _Fused:
    """A layer there, and the layers here that its rows stand for, each with so many times the hidden size."""

    name: str
    parts: tuple[str, ...]
    sizes: tuple[int, ...]


_FUSED = (
    _Fused(
        "double_blocks.{n}.img_attn.qkv",
        tuple(f"transformer_blocks.{{n}}.attn.to_{part}" for part in "qkv"),
        (1, 1, 1),
    ),
    _Fused(
        "double_blocks.{n}.txt_attn.qkv",
        tuple(f"transformer_blocks.{{n}}.attn.add_{part}_proj" for part in "qkv"),
        (1, 1, 1),
    ),
    _Fused(
        "single_blocks.{n}.linear1",
        (
            *(f"single_transformer_blocks.{{n}}.attn.to_{part}" for part in "qkv"),
            "single_transformer_blocks.{n}.proj_mlp",
        ),
        (1, 1, 1, _MLP_RATIO),
    ),
)
_RENAMED: Mapping[str, str] = {
    "double_blocks.{n}.img_attn.proj": "transformer_blocks.{n}.attn.to_out.0",
    "double_blocks.{n}.img_mlp.0": "transformer_blocks.{n}.ff.net.0.proj",
    "double_blocks.{n}.img_mlp.2": "transformer_blocks.{n}.ff.net.2",
    "double_blocks.{n}.img_mod.lin": "transformer_blocks.{n}.norm1.linear",
    "double_blocks.{n}.txt_attn.proj": "transformer_blocks.{n}.attn.to_add_out",
    "double_blocks.{n}.txt_mlp.0": "transformer_blocks.{n}.ff_context.net.0.proj",
    "double_blocks.{n}.txt_mlp.2": "transformer_blocks.{n}.ff_context.net.2",
    "double_blocks.{n}.txt_mod.lin": "transformer_blocks.{n}.norm1_context.linear",
    "single_blocks.{n}.linear2": "single_transformer_blocks.{n}.proj_out",
    "single_blocks.{n}.modulation.lin": "single_transformer_blocks.{n}.norm.linear",
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_BACK = {diffusers: bfl for bfl, diffusers in _RENAMED.items()}
_SWAPPED = "norm_out.linear"  # its outputs are scale and shift there, shift and scale here
_NUMBER = re.compile(r"(?<=blocks\.)\d+")


def is_flux(layers: Sequence[Layer]) -> bool:
    """Whether the adapter is one for Flux's transformer, in either language."""
    return any(_root(layer.name) is not None for layer in layers)


def to_diffusers(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers in diffusers' names; those that have them already, or belong to a text encoder, pass through."""
    fused = {entry.name: entry for entry in _FUSED}
    for layer in layers:
        pattern, number = _pattern(layer.name)
        if entry := fused.get(pattern):
            unit = layer.B.shape[0] // sum(entry.sizes)
            rows = [unit * size for size in entry.sizes]
            yield from split_rows(layer, [_ROOT + part.format(n=number) for part in entry.parts], rows)
        elif name := _RENAMED.get(pattern):
            yield _swapped(replace(layer, name=_ROOT + name.format(n=number)))
        else:
            yield layer


def to_bfl(layers: Sequence[Layer]) -> Iterator[Layer]:
    """The layers in Black Forest Labs' names, those of one fused layer joined.

    Raises UnsupportedAdapter for a layer that Flux doesn't have, or that has another size there.
    """
    parts = {part: entry for entry in _FUSED for part in entry.parts}
    check_size(layers)
    joined: dict[tuple[_Fused, str], dict[str, Layer]] = {}
    for layer in layers:
        pattern, number = _pattern(layer.name)
        if entry := parts.get(pattern):
            joined.setdefault((entry, number), {})[pattern] = layer
        elif name := _BACK.get(pattern):
            yield replace(_swapped(layer), name=_ROOT + name.format(n=number))
        elif layer.name.startswith(_ROOT) and _root(layer.name) is None:
            raise UnsupportedAdapter(layer.name, "this layer", "Flux as kohya knows it has no such layer")
        else:
            yield layer
    for (entry, number), found in joined.items():
        yield _join(entry, number, found)


def check_size(layers: Sequence[Layer]) -> None:
    """Other transformers of diffusers have layers of the same names. Raises UnsupportedAdapter for one that differs."""
    for layer in layers:
        pattern, number = _pattern(layer.name)
        blocks = SINGLE_BLOCKS if pattern.startswith("single") else DOUBLE_BLOCKS
        if number and (int(number) >= blocks or layer.A.shape[1] % HIDDEN):
            raise UnsupportedAdapter(
                layer.name,
                f"this layer with {layer.A.shape[1]} inputs",
                f"Flux has {blocks} such blocks, {HIDDEN} hidden units wide; kohya names no other transformer so",
            )


def _join(entry: _Fused, number: str, found: Mapping[str, Layer]) -> Layer:
    hidden = next(iter(found.values())).A.shape[1]
    rows = [hidden * size for size in entry.sizes]
    members = [found.get(part) for part in entry.parts]
    for layer, count in zip(members, rows, strict=True):
        if layer and layer.B.shape[0] != count:
            raise UnsupportedAdapter(layer.name, f"{layer.B.shape[0]} outputs", f"Flux's layer has {count}")
    return join_rows(_ROOT + entry.name.format(n=number), members, rows)


def _swapped(layer: Layer) -> Layer:
    if layer.name != _ROOT + _SWAPPED:
        return layer
    first, second = layer.B.chunk(2)
    return replace(layer, B=torch.cat([second, first]))


def _pattern(name: str) -> tuple[str, str]:
    """A layer's name with `{n}` for its block's number, and the number."""
    path = name.removeprefix(_ROOT) if name.startswith(_ROOT) else ""
    number = _NUMBER.search(path)
    return (_NUMBER.sub("{n}", path, count=1), number.group()) if number else (path, "")


def _root(name: str) -> str | None:
    """The root of a layer's path, if it is one of Flux's."""
    root = name.removeprefix(_ROOT).partition(".")[0] if name.startswith(_ROOT) else ""
    roots = {pattern.partition(".")[0] for pair in _RENAMED.items() for pattern in pair}
    return root if root in roots else None
