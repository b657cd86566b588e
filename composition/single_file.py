"""Adapters in kohya's, LyCORIS's and diffusers' files: their layers as modules of a blend, and its result as one.

LoHa and LoKr become pairs of factors, and Flux's layers are taken apart, as for `adapters convert`. A module's name has
its component in front (`unet.down_blocks.0…`), which PEFT's folders don't say; a result of such inputs is therefore
written as diffusers keeps it: every scaling folded into B, so that no reader needs an alpha.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import BinaryIO

from torch import Tensor

from composition import flux
from composition.adapter import LoadedModule
from composition.base_weights import BaseWeights
from composition.dora import decomposed
from composition.layers import KERNELS_UNKNOWN, Layer, deduplicate, read_layer, read_layers, with_text_model
from composition.low_rank import LowRank
from composition.module import ComposedModule
from composition.terms import Form, pack
from composition.whole import at_most_full
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.records import FileEntry
from registry.domain.spec import AdapterSpec, ModuleSpec


def load_modules(
    stream: BinaryIO, spec: AdapterSpec, *, subject: str, file: FileEntry, base: BaseWeights | None
) -> tuple[LoadedModule, ...]:
    """The deltas of an adapter, in float32, sorted by name. `base` is where DoRA finds the weights.

    Raises what `read_layers` does, and UnsupportedAdapter for DoRA of a layer that is taken apart.
    """
    stored = read_layers(stream, spec, size=file.size, path=file.path, with_base=base is not None)
    layers = tuple(flux.to_diffusers(stored))
    _check_whole(stored, layers, subject)
    specs = {module.name: module for module in spec.modules}
    known = {with_text_model(layer).name: specs.get(layer.name) for layer in layers}
    return tuple(
        _with_magnitude(_module(layer, module.base_tensor if module else None), layer, module, base, subject)
        for layer in deduplicate(map(with_text_model, layers))
        for module in (known[layer.name],)
    )


def _check_whole(before: Sequence[Layer], after: Sequence[Layer], subject: str) -> None:
    kept = {layer.name for layer in after if layer.magnitude is not None}
    for layer in before:
        if layer.magnitude is not None and layer.name not in kept:
            reason = "it stands for several layers in diffusers' Flux, and its magnitudes would have to be told apart"
            raise UnsupportedAdapter(subject, f"dora of {layer.name}", reason)


def _with_magnitude(
    module: LoadedModule, layer: Layer, spec: ModuleSpec | None, base: BaseWeights | None, subject: str
) -> LoadedModule:
    if layer.magnitude is None or spec is None or base is None:
        return module
    return replace(module, decomposed=decomposed(spec, layer.magnitude.float(), base, subject))


def lycoris_module(module: ModuleSpec, tensors: Mapping[str, Tensor], subject: str) -> LoadedModule:
    """The delta of a LoHa or LoKr in PEFT's folder, of its tensors {name: tensor}.

    Raises InvalidAdapter for a tensor that the file doesn't have, UnsupportedAdapter where its shape isn't known.
    """
    if module.base_tensor is None:
        reason = f"{KERNELS_UNKNOWN}, so register it and push the adapter again"
        raise UnsupportedAdapter(subject, f"{module.kind} in the module {module.name}", reason)
    for name in module.tensors.values():
        if name not in tensors:
            raise InvalidAdapter(name, "the file has no such tensor")
    layer = read_layer(module, {role: tensors[name] for role, name in module.tensors.items()})
    return _module(layer, module.base_tensor)


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
