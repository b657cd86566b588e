"""kohya sd-scripts' adapters, LyCORIS's among them: one safetensors file whose keys are flattened module names.

    lora_unet_<layer>.lora_down.weight, .lora_up.weight, .alpha     LoRA, and LoCon (with a kernel)
    lora_unet_<layer>.lora_mid.weight                               a LoCon's core in Tucker form, with the kernel
    lora_unet_<layer>.hada_*, .lokr_*                               LoHa and LoKr
    lora_unet_<layer>.dora_scale                                    DoRA, next to any of these

Metadata (`ss_*`, `modelspec.*`) is the trainer's and is kept as the adapter's configuration; rank and alpha come from
the tensors, never from it.
"""

from collections.abc import Iterable, Mapping
from math import prod

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, ModuleSpec, TensorEntry
from registry.formats import lycoris
from registry.formats.kohya_names import PREFIXES, canonical_name, is_stability, kernel_of
from registry.formats.layers import Layer, build_lora, printable, summarise, with_sides
from registry.formats.safetensors import Header

NAME = "kohya"
LYCORIS = "lycoris"
ALPHA = ".alpha"

_ROLES = {
    "lora_down.weight": "A",
    "lora_up.weight": "B",
    "lora_mid.weight": "core",
    "alpha": "alpha",
    "dora_scale": "magnitude",
    **{role: role for role in lycoris.ROLES},
}
_BASE_KEYS = ("ss_sd_model_name", "modelspec.architecture", "ss_base_model_version")


def recognises(names: Iterable[str]) -> bool:
    """Whether tensors of these names look like kohya's."""
    return any(name.startswith((*PREFIXES, "lycoris_")) for name in names)


def read(header: Header, scalars: Mapping[str, float]) -> AdapterSpec:
    """Read an adapter from its header and the values of its alphas {tensor name: alpha}.

    Raises InvalidAdapter, RankMismatch or UnsupportedAdapter naming the tensor.
    """
    layers: dict[str, Layer] = {}
    for tensor in header.tensors:
        _place(tensor, layers)
    is_sdxl = any(is_stability(tensor.name.partition(".")[0]) for tensor in header.tensors)
    built = (with_sides(_unfolded(_build(layer, scalars), is_sdxl=is_sdxl), layer) for layer in layers.values())
    modules = tuple(sorted(built, key=lambda module: module.name))
    name = LYCORIS if any(module.kind in {"loha", "lokr"} for module in modules) else NAME
    base = printable(header.metadata, *_BASE_KEYS)
    return AdapterSpec(summarise(modules, header.tensors, format=name, base_name=base), modules, dict(header.metadata))


def _place(tensor: TensorEntry, layers: dict[str, Layer]) -> None:
    flat, _, suffix = tensor.name.partition(".")
    if kind := lycoris.REFUSED.get(suffix):
        raise UnsupportedAdapter(tensor.name, kind, "it is no product of small factors that we can keep exactly")
    if suffix not in _ROLES:
        known = ", ".join(role for role in _ROLES if not role.startswith(("hada", "lokr")))
        raise InvalidAdapter(tensor.name, f"no tensor of a kohya adapter ends so: {known}, hada_… and lokr_… are known")
    name = canonical_name(flat)
    if name is None:
        raise InvalidAdapter(
            tensor.name, "its layer is none of Stable Diffusion 1.5's, SDXL's or Flux's, as sd-scripts call them"
        )
    layers.setdefault(name, Layer(name)).add(_ROLES[suffix], tensor)


def _build(layer: Layer, scalars: Mapping[str, float]) -> ModuleSpec:
    tensor = layer.tensors.get("alpha")
    alpha = scalars[tensor.name] if tensor else None
    if lycoris.is_lycoris(layer):
        return lycoris.build_lycoris(layer, alpha)
    return build_lora(layer, alpha)


def _unfolded(module: ModuleSpec, *, is_sdxl: bool) -> ModuleSpec:
    """A LoHa or LoKr whose factors have a kernel folded into their inputs, with the shape that the base has."""
    if module.kind not in {"loha", "lokr"}:
        return module
    kernel = module.base_shape[2:] or kernel_of(module.name, is_sdxl=is_sdxl)
    inputs, rest = divmod(module.in_features, prod(kernel))
    return module if rest else module.unfolded((module.out_features, inputs, *kernel))
