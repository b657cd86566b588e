"""IA3 adapters in PEFT's folders: one vector a layer, which its output is multiplied by, or its input (feedforward).

    base_model.model.<module>.ia3_l     (out, 1) for outputs, (1, in) for inputs

Vectors of convolutions are refused: their shape doesn't say which side they are of. The base's weights are not needed.

Source: peft 0.21.2, tuners/ia3/layer.py, config.py; Liu et al. 2022, arXiv 2205.05638.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec, TensorEntry
from registry.formats.peft_tensors import PREFIX
from registry.formats.safetensors import Header

PEFT_TYPE = "IA3"
FEEDFORWARD = "feedforward"

_SUFFIX = ".ia3_l"
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_HARMLESS = frozenset(
    {
        "peft_type", "peft_version", "task_type", "base_model_name_or_path", "revision", "auto_mapping",
        "inference_mode", "target_modules", "exclude_modules", "feedforward_modules", "init_ia3_weights",
        "fan_in_fan_out", "runtime_config",
    }
)  # fmt: skip


def read(document: dict[str, Any], header: Header, *, texts: Mapping[str, str | None]) -> AdapterSpec:
    """Read an adapter from its configuration and its tensors' header; `texts` are the configuration's checked texts.

    Raises InvalidAdapter or UnsupportedAdapter naming the key or the tensor.
    """
    turned = document.get("fan_in_fan_out") or False
    if turned not in (True, False):
        raise InvalidAdapter("fan_in_fan_out", f"{str(turned)[:80]!r} is neither true nor false")
    for key in sorted(document.keys() - _HARMLESS):
        if document[key]:
            raise UnsupportedAdapter(f"{key[:80]!a}", "this key beside IA3", "only vectors of linear layers are known")
    modules = [_module(tensor, turned=bool(turned)) for tensor in header.tensors]
    if not modules:
        raise InvalidAdapter("tensors", "there are none")
    modules.sort(key=lambda module: module.name)
    return AdapterSpec(_summary(modules, header.tensors, texts), tuple(modules), document)


def _module(tensor: TensorEntry, *, turned: bool) -> ModuleSpec:
    name = tensor.name.removeprefix(PREFIX).removesuffix(_SUFFIX)
    if not (tensor.name.startswith(PREFIX) and tensor.name.endswith(_SUFFIX)) or not name:
        raise UnsupportedAdapter(tensor.name, "this tensor beside IA3", f"its tensors are {PREFIX}<module>{_SUFFIX}")
    if tensor.dtype not in _FLOATS:
        raise InvalidAdapter(tensor.name, f"a vector of dtype {tensor.dtype} is not a floating number")
    if len(tensor.shape) != 2 or 1 not in tensor.shape:
        reason = f"its shape {list(tensor.shape)} is not that of a linear layer's vector"
        raise UnsupportedAdapter(tensor.name, "an IA3 of another layer", reason)
    inward = tensor.shape[0] == 1 and tensor.shape[1] != 1
    variants = {"ia3", *([FEEDFORWARD] if inward else []), *(["fan_in_fan_out"] if turned else [])}
    return ModuleSpec(
        name=name,
        kind="ia3",
        rank=0,
        alpha=0.0,
        scaling=0.0,
        in_features=tensor.shape[1] if inward else 0,
        out_features=0 if inward else tensor.shape[0],
        dtype=tensor.dtype,
        variants=tuple(sorted(variants)),
        tensors={"scale": tensor.name},
        base_shape=tensor.shape,
    )


def _summary(
    modules: Sequence[ModuleSpec], tensors: Sequence[TensorEntry], texts: Mapping[str, str | None]
) -> AdapterSummary:
    return AdapterSummary(
        format="peft",
        peft_type=PEFT_TYPE,
        rank=0,
        alpha=0.0,
        ranks={},
        targets=tuple(sorted({module.name.rpartition(".")[2] for module in modules})),
        variants=tuple(sorted({variant for module in modules for variant in module.variants})),
        dtype=Counter(module.dtype for module in modules).most_common(1)[0][0],
        parameters=sum(prod(tensor.shape) for tensor in tensors),
        base_name=texts["base_model_name_or_path"],
        base_revision=texts["revision"],
        task_type=texts["task_type"],
    )
