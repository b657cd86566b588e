"""IA3 adapters in PEFT's folders: one vector a layer, which its output is multiplied by, or its input (feedforward).

    base_model.model.<module>.ia3_l     (out, 1) for outputs, (1, in) for inputs; of convolutions (1, n, 1…) for both

Of a convolution's vector the configuration says which side it is of (`feedforward_modules`). The base's weights are
not needed.

Source: peft 0.21.2, tuners/ia3/layer.py, config.py; Liu et al. 2022, arXiv 2205.05638.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.spec import AdapterSpec, AdapterSummary, ModuleSpec, TensorEntry
from registry.formats.peft_tensors import PREFIX
from registry.formats.regex import Automaton, Budget
from registry.formats.regex_syntax import PatternError, UnsupportedPattern, parse
from registry.formats.safetensors import Header

PEFT_TYPE = "IA3"
FEEDFORWARD = "feedforward"

_SUFFIX = ".ia3_l"
_MAX_STEPS = 8_000_000  # of one pattern over all modules of a file: seconds
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
    is_inward = _feedforward(document.get("feedforward_modules"))
    modules = [_module(tensor, is_inward, turned=bool(turned)) for tensor in header.tensors]
    if not modules:
        raise InvalidAdapter("tensors", "there are none")
    modules.sort(key=lambda module: module.name)
    return AdapterSpec(_summary(modules, header.tensors, texts), tuple(modules), document)


def _feedforward(value: Any) -> Callable[[str], bool]:
    """Whether a module of a name multiplies its inputs; PEFT compares a list with str.endswith."""
    if isinstance(value, str) and value:
        try:
            pattern, budget = Automaton(parse(value)), Budget(_MAX_STEPS)
        except UnsupportedPattern as error:
            raise UnsupportedAdapter("feedforward_modules", repr(value[:200]), str(error)) from None
        except PatternError as error:
            raise InvalidAdapter(f"feedforward_modules {value[:200]!r}", str(error)) from None
        return lambda name: _matches(pattern, name, budget)
    names = value or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidAdapter("feedforward_modules", f"{str(value)[:80]!r} is no list of names")
    ends = tuple(names)
    return lambda name: name.endswith(ends)


def _matches(pattern: Automaton, name: str, budget: Budget) -> bool:
    try:
        return pattern.matches(name, budget)
    except UnsupportedPattern as error:
        raise UnsupportedAdapter("the adapter", "feedforward_modules", str(error)) from None


def _module(tensor: TensorEntry, is_inward: Callable[[str], bool], *, turned: bool) -> ModuleSpec:
    name = tensor.name.removeprefix(PREFIX).removesuffix(_SUFFIX)
    if not (tensor.name.startswith(PREFIX) and tensor.name.endswith(_SUFFIX)) or not name:
        raise UnsupportedAdapter(tensor.name, "this tensor beside IA3", f"its tensors are {PREFIX}<module>{_SUFFIX}")
    if tensor.dtype not in _FLOATS:
        raise InvalidAdapter(tensor.name, f"a vector of dtype {tensor.dtype} is not a floating number")
    is_conv = len(tensor.shape) > 2
    if len(tensor.shape) < 2 or prod(tensor.shape) != max(tensor.shape) or (is_conv and tensor.shape[0] != 1):
        reason = f"its shape {list(tensor.shape)} is not that of a linear layer's vector, or of a convolution's"
        raise UnsupportedAdapter(tensor.name, "an IA3 of another layer", reason)
    inward = is_inward(name) if is_conv else tensor.shape[0] == 1 and tensor.shape[1] != 1
    shown = {"ia3": True, FEEDFORWARD: inward, "fan_in_fan_out": turned and not is_conv, "conv": is_conv}
    return ModuleSpec(
        name=name,
        kind="ia3",
        rank=0,
        alpha=0.0,
        scaling=0.0,
        in_features=prod(tensor.shape) if inward else 0,
        out_features=0 if inward else prod(tensor.shape),
        dtype=tensor.dtype,
        variants=tuple(sorted(variant for variant, is_shown in shown.items() if is_shown)),
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
