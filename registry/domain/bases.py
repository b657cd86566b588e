"""A base model's tensor index, and how an adapter's module names match it.

A module belongs to the one tensor of the base whose name ends in the module's at a component's boundary, or in which
the module's name ends, and whose shape fits. `encoder.layer.0…` and `bert.encoder.layer.0…` meet so in either
direction; where a checkpoint speaks another language, `registry.domain.base_names` translates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import permutations
from math import prod
from typing import Any, Self

from registry.domain.base_names import FUSED_EXPERTS, FUSED_HOLDERS, other_names
from registry.domain.digest import base_fingerprint
from registry.domain.errors import BaseMismatch
from registry.domain.spec import AdapterSpec, ModuleSpec

# Kinds whose tensors may be absent from the base: heads that were added, biases of such heads.
_OPTIONAL_KINDS = frozenset({"saved", "bias", "tokens"})
# Heads that share their weight with the embeddings, so that checkpoints leave them out.
_TIED_HEADS = frozenset({"lm_head", "embed_out", "output"})
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight", "shared.weight")
# Models whose linear layers are Conv1D: stored as (in, out).
TRANSPOSED = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer", "clvp"})
_PACKED = frozenset({"U8", "I8", "I32"})  # quantised weights: their shape isn't the matrix's
_MAX_SIBLINGS = 4


@dataclass(frozen=True, slots=True)
class BaseTensor:
    """One tensor of a base. `component` is "" for a single model, else diffusers' folder; `size` in bytes.

    `dtype` is the safetensors name (F32, BF16, …) or GGUF's type (Q4_1, …); `shape` outermost dimension first,
    in GGUF files too (which store it the other way round).
    """

    component: str
    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int
    sha256: str

    @property
    def label(self) -> str:
        """`component/name`, or the name alone."""
        return f"{self.component}/{self.name}" if self.component else self.name

    @property
    def path(self) -> str:
        """The name with the component in front, as one dotted path."""
        return f"{self.component}.{self.name}" if self.component else self.name


@dataclass(frozen=True)
class BaseIndex:
    """Everything about a base that pushes are checked against, without its weights.

    `format` is safetensors or gguf; `model_type` is config.json's, or GGUF's `general.architecture`.
    """

    format: str
    model_type: str | None
    tensors: tuple[BaseTensor, ...]

    @cached_property
    def fingerprint(self) -> str:
        return base_fingerprint((t.component, t.name, t.dtype, t.shape, t.sha256) for t in self.tensors)

    @property
    def size(self) -> int:
        return sum(tensor.size for tensor in self.tensors)

    @property
    def parameters(self) -> int:
        """Elements of all tensors (of a packed, quantised one: as stored)."""
        return sum(prod(tensor.shape) for tensor in self.tensors)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON; `from_document` reads it back."""
        rows = [[t.component, t.name, t.dtype, list(t.shape), t.size, t.sha256] for t in self.tensors]
        return {"format": self.format, "model_type": self.model_type, "tensors": rows}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        tensors = tuple(
            BaseTensor(component, name, dtype, tuple(shape), size, sha256)
            for component, name, dtype, shape, size, sha256 in document["tensors"]
        )
        return cls(document["format"], document["model_type"], tensors)

    @cached_property
    def names(self) -> "_Names":
        return _Names.of(self)


@dataclass(slots=True)
class _Names:
    """Every name of every tensor, and every end of a name at a component's boundary."""

    whole: dict[str, list[BaseTensor]] = field(default_factory=dict)
    ends: dict[str, list[BaseTensor]] = field(default_factory=dict)

    @classmethod
    def of(cls, index: BaseIndex) -> Self:
        names = cls()
        for tensor in index.tensors:
            translated = other_names(index.model_type, tensor.name) if index.format == "gguf" else ()
            for name in (tensor.path, *translated):
                names.whole.setdefault(name, []).append(tensor)
                for end in _shorter(name):
                    names.ends.setdefault(end, []).append(tensor)
        return names

    def find(self, name: str) -> list[BaseTensor]:
        """Tensors of that very name; else those that end in it; else the longest that it ends in."""
        found = self.whole.get(name) or self.ends.get(name)
        if found:
            return found
        return next((self.whole[end] for end in _shorter(name) if end in self.whole and "." in end), [])


def _shorter(name: str) -> Iterator[str]:
    start = name.find(".")
    while start >= 0:
        yield name[start + 1 :]
        start = name.find(".", start + 1)


@dataclass(frozen=True, slots=True)
class _Hit:
    """A tensor of the base, and what it says about the module: stored as (in, out)?"""

    tensor: BaseTensor
    transposed: bool = False


def match(spec: AdapterSpec, index: BaseIndex, *, base: str) -> AdapterSpec:
    """The adapter with the base's tensor in every module; `base` names the base in errors. Linear in both.

    Raises BaseMismatch naming the tensor: none of the modules is in the base, one is missing, fits several tensors, or
    has another shape. Heads of modules_to_save, biases and trained tokens may be absent.
    """
    factors = [module for module in spec.modules if module.kind not in _OPTIONAL_KINDS]
    if not any(_candidates(module, index) for module in factors):
        first = factors[0]
        raise BaseMismatch(base, _tensor(first), f"none of the adapter's {len(factors)} modules is in it")
    placed = {id(module): _place(module, index, base) for module in spec.modules if module.kind != "parameter"}
    placed |= _place_parameters([module for module in factors if module.kind == "parameter"], index, base)
    return replace(spec, modules=tuple(placed[id(module)] for module in spec.modules))


def _tensor(module: ModuleSpec) -> str:
    return module.tensors.get("A") or next(iter(module.tensors.values()), module.name)


def _candidates(module: ModuleSpec, index: BaseIndex) -> list[BaseTensor]:
    names = index.names
    if module.kind == "parameter":
        return names.find(module.name) or _split_experts(module, index)
    if module.kind == "bias":
        return names.find(f"{module.name}.bias")
    found = names.find(f"{module.name}.weight") or names.find(f"{module.name}.qweight")
    if module.kind == "linear":
        found = found or names.find(f"{module.name}.in_proj_weight") or names.find(f"{module.name}_weight")
        found = found or _fused_expert(module, index) or _tied(module, index)
    return found


def _place(module: ModuleSpec, index: BaseIndex, base: str) -> ModuleSpec:
    found = _candidates(module, index)
    hits = [hit for tensor in found if (hit := _fit(module, tensor, index))]
    if len(hits) == 1:
        module = module.unfolded(hits[0].tensor.shape)
        variants = set(module.variants) | ({"fan_in_fan_out"} if hits[0].transposed else set())
        return replace(module, base_tensor=hits[0].tensor.label, variants=tuple(sorted(variants)))
    if module.kind in _OPTIONAL_KINDS and not (module.kind == "bias" and found):
        return module
    raise BaseMismatch(base, _tensor(module), _why_not(module, found, hits))


def _why_not(module: ModuleSpec, found: list[BaseTensor], hits: list[_Hit]) -> str:
    if len(hits) > 1:
        labels = ", ".join(sorted(hit.tensor.label for hit in hits)[:4])
        return f"the module {module.name} fits several tensors: {labels}"
    if not found:
        return f"the base has no module {module.name}, though it has others of this adapter"
    return (
        f"it adapts a matrix of shape {list(module.base_shape)}, "
        f"where the base's {found[0].label} has {list(found[0].shape)}"
    )


def _fit(module: ModuleSpec, tensor: BaseTensor, index: BaseIndex) -> _Hit | None:
    shape, wanted = tensor.shape, module.base_shape
    if module.kind == "ia3" and len(shape) == len(wanted):
        sides = shape[:2] if len(shape) > 2 or not _is_transposed(module, index) else shape[::-1]
        return _Hit(tensor) if tensor.dtype in _PACKED or module.multiplies(*sides) else None
    if shape == wanted or module.folds(shape):
        return _Hit(
            tensor, transposed=module.kind == "linear" and _is_transposed(module, index) and shape[0] == shape[1]
        )
    if tensor.dtype in _PACKED and module.kind not in _OPTIONAL_KINDS:
        return _Hit(tensor)
    if module.kind == "linear":
        return _fit_linear(module, tensor, index)
    if module.kind == "parameter" and _fits_parameter(wanted, tensor):
        return _Hit(tensor)
    fits_tokens = module.kind == "tokens" and len(shape) == 2 and shape[1] == wanted[-1] and shape[0] >= wanted[0]
    return _Hit(tensor) if fits_tokens else None


def _is_transposed(module: ModuleSpec, index: BaseIndex) -> bool:
    # GGUF stores (out, in) throughout: llama.cpp turns these matrices round when it converts them.
    return index.format != "gguf" and ("fan_in_fan_out" in module.variants or index.model_type in TRANSPOSED)


def _fit_linear(module: ModuleSpec, tensor: BaseTensor, index: BaseIndex) -> _Hit | None:
    shape, wanted = tensor.shape, module.base_shape
    if shape == wanted[::-1] and _is_transposed(module, index):
        return _Hit(tensor, transposed=True)
    if len(shape) == 3:  # one of the experts of a stack, or one of two that are stacked along their rows
        for matrix in (shape[1:], shape[:0:-1]):
            if matrix == wanted or (matrix[1] == wanted[1] and matrix[0] == 2 * wanted[0]):
                return _Hit(tensor)
    # A 1x1 convolution is a linear layer to PEFT where the model made it one.
    return _Hit(tensor) if shape[:2] == wanted and prod(shape[2:]) == 1 else None


def _fits_parameter(wanted: tuple[int, ...], tensor: BaseTensor) -> bool:
    # PEFT stores (out, in) of each expert; a parameter may hold (experts, in, out), or a stack of one.
    experts, outputs, inputs = wanted if len(wanted) == 3 else (1, *wanted)
    stack = tensor.shape if len(tensor.shape) == 3 else (1, *tensor.shape)
    return stack == (experts, outputs, inputs) or tensor.shape == (experts, inputs, outputs)


def _fused_expert(module: ModuleSpec, index: BaseIndex) -> list[BaseTensor]:
    """`…experts.7.gate_proj` where the base stacks all experts in one tensor, with or without up_proj."""
    holder, numbered, rest = module.name.partition(".experts.")
    number, _, projection = rest.partition(".")
    if not numbered or not number.isdecimal():
        return []
    for name in (projection, {"gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}.get(projection, projection)):
        for parameter in (f"{holder}.experts.{name}", f"{holder}.experts.{name}.weight"):
            found = [t for t in index.names.find(parameter) if len(t.shape) == 3 and int(number) < t.shape[0]]
            if found:
                return found
    return []


def _tied(module: ModuleSpec, index: BaseIndex) -> list[BaseTensor]:
    if module.name.rpartition(".")[2] not in _TIED_HEADS:
        return []
    return next((found for name in _EMBEDDINGS if (found := index.names.find(name))), [])


# -- stacked experts --------------------------------------------------------------------------------------------------


def _split_experts(module: ModuleSpec, index: BaseIndex) -> list[BaseTensor]:
    """The first expert's tensor, as if it were the stack that transformers makes of all of them when it loads."""
    holder, _, parameter = module.name.rpartition(".")
    outer, _, experts = holder.rpartition(".")
    outers = [outer, *(outer.removesuffix(new) + old for new, old in FUSED_HOLDERS.items() if outer.endswith(new))]
    for place in outers:
        for parts in FUSED_EXPERTS.get(parameter, ()):
            found = [index.names.find(f"{place}.{experts}.0.{part}.weight") for part in parts]
            last = index.names.find(f"{place}.{experts}.{module.experts - 1}.{parts[0]}.weight")
            if all(len(tensors) == 1 for tensors in (*found, last)):
                return [_stack([tensors[0] for tensors in found], module.experts)]
    return []


def _stack(parts: list[BaseTensor], experts: int) -> BaseTensor:
    rows = sum(part.shape[0] for part in parts)
    return replace(parts[0], shape=(experts, rows, *parts[0].shape[1:]))


def _place_parameters(modules: list[ModuleSpec], index: BaseIndex, base: str) -> dict[int, ModuleSpec]:
    """Parameters of one module share their tensors' names but for the nesting: their shapes tell them apart."""
    siblings: dict[str, list[ModuleSpec]] = {}
    for module in modules:
        siblings.setdefault(module.name.rpartition(".")[0], []).append(module)
    placed: dict[int, ModuleSpec] = {}
    for group in siblings.values():
        order = _fitting_order(group, index)
        for module, name in zip(group, order, strict=True):
            placed[id(module)] = _place(replace(module, name=name), index, base)
    return placed


def _fitting_order(group: list[ModuleSpec], index: BaseIndex) -> tuple[str, ...]:
    names = tuple(module.name for module in group)
    for order in permutations(names) if len(names) <= _MAX_SIBLINGS else ():
        renamed = [replace(module, name=name) for module, name in zip(group, order, strict=True)]
        if all(any(_fit(module, t, index) for t in _candidates(module, index)) for module in renamed):
            return order
    return names
