"""Adapters in kohya's, LyCORIS's and diffusers' files: their layers as modules of a blend, and its result as one.

LoHa and LoKr become pairs of factors, and Flux's layers are taken apart, as for `adapters convert`. A module's name has
its component in front (`unet.down_blocks.0…`), which PEFT's folders don't say; a result of such inputs is therefore
written as diffusers keeps it: every scaling folded into B, so that no reader needs an alpha.
"""

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from torch import Tensor

from composition import flux
from composition.adapter import LoadedModule
from composition.layers import Layer, deduplicate, read_layers, with_text_model
from composition.low_rank import LowRank
from composition.module import ComposedModule
from composition.terms import Form, pack
from composition.whole import at_most_full
from registry.domain.spec import AdapterSpec


def load_modules(stream: BinaryIO, spec: AdapterSpec, *, size: int, path: str) -> tuple[LoadedModule, ...]:
    """The deltas of an adapter, in float32, sorted by name. Raises what `read_layers` does."""
    places = {module.name: module.base_tensor for module in spec.modules}
    layers = tuple(flux.to_diffusers(read_layers(stream, spec, size=size, path=path)))
    tensors = {with_text_model(layer).name: places.get(layer.name) for layer in layers}
    return tuple(_module(layer, tensors[layer.name]) for layer in deduplicate(map(with_text_model, layers)))


def _module(layer: Layer, base_tensor: str | None) -> LoadedModule:
    kernel = tuple(layer.A.shape[2:])
    delta = LowRank(layer.A.flatten(1).float(), layer.B.flatten(1).float(), layer.scaling)
    form = Form("conv", kernel=kernel) if kernel else Form()
    return LoadedModule(layer.name, base_tensor, at_most_full(delta), form)


def diffusers_tensors(modules: Iterable[ComposedModule]) -> Iterator[tuple[str, Tensor]]:
    """The tensors of modules in diffusers' file."""
    for module in modules:
        a, b = pack(module.delta, module.form)
        yield f"{module.name}.lora_A.weight", a
        yield f"{module.name}.lora_B.weight", b
