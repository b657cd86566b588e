"""From the tensors of one module to its ModuleSpec: kind, rank, alpha, scaling, shapes, variants.

Source: peft 0.21.2, tuners/lora/layer.py: the shapes that `update_layer` gives each kind of layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from registry.domain.errors import InvalidAdapter, RankMismatch, UnsupportedAdapter
from registry.domain.spec import ModuleSpec, TensorEntry
from registry.formats.peft_config import LoraSettings
from registry.formats.peft_lycoris import lycoris_module
from registry.formats.peft_tensors import SortedTensors, TensorGroup, strip_base_layer

_FLOATS = frozenset({"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"})

# Variants of the configuration that hold only for modules where the tensors show them.
SHOWN_BY_TENSORS = frozenset(
    {"dora", "lora_bias", "rank_pattern", "alpha_pattern", "target_parameters", "modules_to_save", "trainable_tokens"}
)
# Variants of the configuration that are no property of a module.
WHOLE_ADAPTER = frozenset({"bias", "layer_replication"})

# transformers registers the parameters of a layer of experts in this order; PEFT wraps the first one innermost.
_MAX_SIBLINGS = 64  # parameters of one module
_REGISTRATION_ORDER = ("gate_up_proj", "gate_proj", "up_proj", "w1", "w3", "v1", "down_proj", "w2")


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where a kind of layer has its sizes."""

    kind: str
    in_features: int
    out_features: int
    base_shape: tuple[int, ...]
    experts: int = 1
    variants: frozenset[str] = frozenset()


def build_modules(groups: SortedTensors, settings: LoraSettings) -> tuple[ModuleSpec, ...]:
    """Every module of an adapter, sorted by name. Raises RankMismatch or InvalidAdapter naming a tensor."""
    names = dict(_parameter_names(groups, settings)) if settings.target_parameters else {}
    modules = [_low_rank(group, settings, parameter=names.get(path)) for path, group in groups.low_rank.items()]
    modules.extend(_tokens(group) for group in groups.tokens.values())
    modules.extend(_whole(group, "saved") for group in groups.saved.values())
    modules.extend(_whole(group, "bias") for group in groups.biases.values())
    modules.sort(key=lambda module: (module.name, module.kind))
    for first, second in pairwise(modules):
        if (first.name, first.kind) == (second.name, second.kind):
            tensor = min(second.tensors.values())
            raise InvalidAdapter(tensor, f"the module {second.name} has {min(first.tensors.values())} too")
    return tuple(modules)


def _low_rank(group: TensorGroup, settings: LoraSettings, *, parameter: str | None) -> ModuleSpec:
    name = parameter or strip_base_layer(group.path)
    if settings.peft_type != "LORA":
        return lycoris_module(name, group.tensors, settings)
    a, b = _factors(group)
    rank, alpha = settings.rank_of(name), settings.alpha_of(name)
    layout = _layout(a, b, rank, is_parameter=parameter is not None)
    _check_extras(group, layout, settings)
    return ModuleSpec(
        name=name,
        kind=layout.kind,
        rank=rank,
        alpha=alpha,
        scaling=settings.scaling(rank, alpha),
        in_features=layout.in_features,
        out_features=layout.out_features,
        dtype=a.dtype,
        variants=tuple(sorted(_variants(name, group, layout, settings=settings))),
        tensors={role.removeprefix("embedding_"): tensor.name for role, tensor in sorted(group.tensors.items())},
        base_shape=layout.base_shape,
        experts=layout.experts,
    )


def _factors(group: TensorGroup) -> tuple[TensorEntry, TensorEntry]:
    tensors = group.tensors
    for a, b in (("A", "B"), ("embedding_A", "embedding_B")):
        if a in tensors and b in tensors:
            if len([role for role in tensors if role.endswith(("A", "B")) and role != "bias_B"]) > 2:
                raise InvalidAdapter(tensors[a].name, "the module has the factors of two kinds of layer")
            for factor in (tensors[a], tensors[b]):
                if factor.dtype not in _FLOATS:
                    raise InvalidAdapter(factor.name, f"a factor of dtype {factor.dtype} is not a floating number")
            return tensors[a], tensors[b]
    first = next(iter(tensors.values()))
    missing = "lora_B" if "A" in tensors or "embedding_A" in tensors else "lora_A"
    raise InvalidAdapter(first.name, f"the {missing} of this module is missing")


def _layout(a: TensorEntry, b: TensorEntry, rank: int, *, is_parameter: bool) -> _Layout:
    if len(a.shape) < 2 or len(a.shape) != len(b.shape):
        raise InvalidAdapter(b.name, f"factors of shapes {list(a.shape)} and {list(b.shape)} don't multiply")
    if is_parameter:
        return _parameter_layout(a, b, rank)
    _check_rank(a, a.shape[0], rank)
    if len(a.shape) > 2:
        return _conv_layout(a, b, rank)
    _check_rank(b, b.shape[1], rank)
    inputs, outputs = a.shape[1], b.shape[0]
    if a.name.endswith("embedding_A"):
        return _Layout("embedding", inputs, outputs, (inputs, outputs), variants=frozenset({"embedding"}))
    return _Layout("linear", inputs, outputs, (outputs, inputs))


def _check_rank(tensor: TensorEntry, found: int, rank: int) -> None:
    if found != rank:
        raise RankMismatch(tensor.name, expected=rank, found=found)


def _conv_layout(a: TensorEntry, b: TensorEntry, rank: int) -> _Layout:
    groups, rest = divmod(rank, b.shape[1])
    if rest:
        raise RankMismatch(b.name, expected=rank, found=b.shape[1])
    if prod(b.shape[2:]) != 1:
        raise InvalidAdapter(b.name, f"its kernel is {list(b.shape[2:])}; PEFT's is of size 1")
    variants = {"conv"} | ({"grouped_conv"} if groups > 1 else set())
    # A sees all channels at once, where each row of a grouped base sees those of its group.
    shape = (b.shape[0], a.shape[1] // groups, *a.shape[2:])
    return _Layout("conv", a.shape[1], b.shape[0], shape, variants=frozenset(variants))


def _parameter_layout(a: TensorEntry, b: TensorEntry, rank: int) -> _Layout:
    experts, rest = divmod(a.shape[0], rank)
    if rest or len(a.shape) != 2:
        raise RankMismatch(a.name, expected=rank, found=a.shape[0])
    if b.shape[1] != a.shape[0]:
        raise RankMismatch(b.name, expected=a.shape[0], found=b.shape[1])
    inputs, outputs = a.shape[1], b.shape[0]
    shape = (experts, outputs, inputs) if experts > 1 else (outputs, inputs)
    variants = frozenset({"target_parameters"})
    return _Layout("parameter", inputs, outputs, shape, experts=experts, variants=variants)


def _check_extras(group: TensorGroup, layout: _Layout, settings: LoraSettings) -> None:
    _check_diagonal(group, settings)
    magnitude, bias = group.tensors.get("magnitude"), group.tensors.get("bias_B")
    first = next(iter(group.tensors.values()))
    if magnitude is not None and (not settings.dora or prod(magnitude.shape) != layout.out_features):
        expected = f"{layout.out_features} magnitudes" if settings.dora else "use_dora in the configuration"
        raise InvalidAdapter(magnitude.name, f"its shape is {list(magnitude.shape)}; {expected} would explain it")
    if magnitude is None and settings.dora and layout.kind != "parameter":
        raise InvalidAdapter(first.name, "the configuration says use_dora, and lora_magnitude_vector is missing")
    if bias is not None and (not settings.lora_bias or bias.shape != (layout.out_features,)):
        expected = f"[{layout.out_features}]" if settings.lora_bias else "lora_bias in the configuration"
        raise InvalidAdapter(bias.name, f"its shape is {list(bias.shape)}; {expected} would explain it")
    if bias is None and settings.lora_bias and layout.kind in {"linear", "conv"}:
        raise InvalidAdapter(first.name, "the configuration says lora_bias, and lora_B.bias is missing")


def _check_diagonal(group: TensorGroup, settings: LoraSettings) -> None:
    diagonal = group.tensors.get("diag")
    if diagonal is not None and "kasa" not in settings.variants:
        raise InvalidAdapter(diagonal.name, "kasa_config in the configuration would explain it")
    if diagonal is not None and diagonal.shape != group.tensors["A"].shape[:1]:
        raise RankMismatch(diagonal.name, expected=group.tensors["A"].shape[0], found=prod(diagonal.shape))


def _variants(name: str, group: TensorGroup, layout: _Layout, *, settings: LoraSettings) -> set[str]:
    found = set(layout.variants)
    found |= settings.variants - SHOWN_BY_TENSORS - WHOLE_ADAPTER
    found = {variant for variant in found if not variant.startswith("unknown:")}
    if layout.kind != "linear":
        found.discard("fan_in_fan_out")
    shown = {
        "dora": "magnitude" in group.tensors,
        "lora_bias": "bias_B" in group.tensors,
        "rank_pattern": settings.ranks.key(name) is not None,
        "alpha_pattern": settings.alphas.key(name) is not None,
    }
    return found | {variant for variant, is_shown in shown.items() if is_shown}


def _tokens(group: TensorGroup) -> ModuleSpec:
    delta = group.tensors["tokens"]
    if len(delta.shape) != 2:
        raise InvalidAdapter(delta.name, f"its shape is {list(delta.shape)}; tokens x width is needed")
    return _plain_spec(group, "tokens", delta, variant="trainable_tokens", inputs=delta.shape[0])


def _whole(group: TensorGroup, kind: str) -> ModuleSpec:
    _check_copies(group)
    main = group.tensors.get("weight") or next(iter(group.tensors.values()))
    variant = "bias" if kind == "bias" else "modules_to_save"
    return _plain_spec(group, kind, main, variant=variant, inputs=prod(main.shape[1:]) if len(main.shape) > 1 else 0)


def _check_copies(group: TensorGroup) -> None:
    for role, tensor in group.tensors.items():
        plain = group.tensors.get(role.rpartition(".")[2])
        if plain is None or plain.shape != tensor.shape:
            raise InvalidAdapter(tensor.name, "it is a copy of a tensor that the file doesn't have in this shape")


def _plain_spec(group: TensorGroup, kind: str, main: TensorEntry, *, variant: str, inputs: int) -> ModuleSpec:
    outputs = main.shape[-1] if kind == "tokens" else main.shape[0] if main.shape else 1
    return ModuleSpec(
        name=strip_base_layer(group.path),
        kind=kind,
        rank=0,
        alpha=0.0,
        scaling=0.0,
        in_features=inputs,
        out_features=outputs,
        dtype=main.dtype,
        variants=(variant,),
        tensors={role: tensor.name for role, tensor in sorted(group.tensors.items())},
        base_shape=main.shape,
    )


# -- target_parameters ------------------------------------------------------------------------------------------------


def _parameter_names(groups: SortedTensors, settings: LoraSettings) -> Iterator[tuple[str, str]]:
    """(path of the tensors, name of the parameter) of each module that holds a targeted parameter.

    PEFT nests one wrapper a parameter (`experts.base_layer.lora_A` is the innermost) and doesn't store which is
    whose. The order of registration decides; `registry.domain.bases.match` puts it right by shape.
    """
    targets: dict[str, list[str]] = {}
    for target in settings.target_parameters:
        module, _, parameter = target.rpartition(".")
        targets.setdefault(module, []).append(parameter)
        if len(targets[module]) > _MAX_SIBLINGS:
            raise InvalidAdapter("target_parameters", f"more than {_MAX_SIBLINGS} of the module {module[:80]!r}")
    levels: dict[str, list[str]] = {}
    for path in sorted(groups.low_rank, key=len, reverse=True):
        levels.setdefault(strip_base_layer(path), []).append(path)
    for module, paths in levels.items():
        parameters = sorted(set(_targets_of(module, targets)), key=_registration)
        if len(parameters) < len(paths) and (parameters or len(paths) > 1):
            raise InvalidAdapter(groups.low_rank[paths[0]].path, "more nested wrappers than target_parameters name")
        _check_agreement(module, parameters, paths, settings=settings)
        for path, parameter in zip(paths, parameters, strict=False):
            yield path, f"{module}.{parameter}"


def _targets_of(module: str, targets: dict[str, list[str]]) -> Iterator[str]:
    suffix = module
    while suffix:
        yield from targets.get(suffix, ())
        suffix = suffix.partition(".")[2]
    yield from targets.get("", ())


def _registration(parameter: str) -> tuple[int, str]:
    known = parameter in _REGISTRATION_ORDER
    return (_REGISTRATION_ORDER.index(parameter) if known else len(_REGISTRATION_ORDER), parameter)


def _check_agreement(module: str, parameters: list[str], paths: list[str], *, settings: LoraSettings) -> None:
    if len(parameters) < 2 or not paths:
        return
    names = [f"{module}.{parameter}" for parameter in parameters]
    if len({(settings.rank_of(name), settings.alpha_of(name)) for name in names}) > 1:
        raise UnsupportedAdapter(
            module, "a pattern that tells parameters of one module apart", "PEFT does not store which tensor is whose"
        )
