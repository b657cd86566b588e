"""How a module's delta is stored, beyond two plain factors; and how it is brought into one shape and back.

Sums, truncations and methods see a delta as `scaling * B @ A`, out x in, whatever the layer:

    linear      A (r, in), B (out, r)
    embedding   A (r, tokens), B (width, r): the base's matrix, tokens x width, changes by the transpose
    conv        A (r, in, k…) taken as (r, in·k…), B (out, r, 1…) as (out, r)
    parameter   a stack of experts, one delta each: A (experts·r, in) expert by expert, B (out, r·experts) rank by rank

This room knows specifications and tensors, no files and no recipes.
Source: peft 0.21.2, tuners/lora/layer.py: Embedding, _ConvNd and ParamWrapper.get_delta_weight.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from composition.low_rank import LowRank
from registry.domain.spec import ModuleSpec


@dataclass(frozen=True, slots=True)
class Form:
    """How a delta lies in an adapter's file.

    `kernel` is a convolution's. `expert` counts within a stack of `experts`, and `nesting` says how many wrappers of
    other parameters of the same module stand around this one's.
    """

    kind: str = "linear"
    kernel: tuple[int, ...] = ()
    expert: int = 0
    experts: int = 1
    nesting: int = 0

    def __str__(self) -> str:
        if self.kind == "conv":
            return f"convolution {'x'.join(map(str, self.kernel))}"
        if self.kind == "parameter":
            return f"parameter of {self.experts} experts, nested {self.nesting} deep"
        return self.kind


LINEAR = Form()


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A delta of a module; `suffix` tells those of one module apart: [0], [1], … for experts, else nothing."""

    suffix: str
    form: Form
    delta: LowRank


def factor_shapes(module: ModuleSpec) -> dict[str, tuple[int, ...]]:
    """The shapes that a module's tensors must have in the file, by role."""
    rank, kernel = module.rank * module.experts, _kernel(module)
    return {
        "A": (rank, module.in_features, *kernel),
        "B": (module.out_features, rank, *(1 for _ in kernel)),
        "bias_B": (module.out_features,),
    }


def unpack(module: ModuleSpec, a: Tensor, b: Tensor) -> Iterator[Part]:
    """The deltas of a module, of factors as they are stored."""
    if module.kind == "parameter":
        yield from _unpack_experts(module, a, b)
        return
    form = Form(module.kind, kernel=_kernel(module))
    yield Part("", form, LowRank(a.flatten(1), b.flatten(1), module.scaling))


def _kernel(module: ModuleSpec) -> tuple[int, ...]:
    return module.base_shape[2:] if module.kind == "conv" else ()


def _unpack_experts(module: ModuleSpec, a: Tensor, b: Tensor) -> Iterator[Part]:
    nesting = module.tensors["A"].split(".").count("base_layer")
    inside = a.reshape(module.experts, module.rank, -1)
    outside = b.reshape(len(b), module.rank, module.experts).permute(2, 0, 1).contiguous()
    for expert, (rows, columns) in enumerate(zip(inside, outside, strict=True)):
        form = Form("parameter", expert=expert, experts=module.experts, nesting=nesting)
        yield Part(f"[{expert}]", form, LowRank(rows, columns, module.scaling))


def pack(delta: LowRank, form: Form) -> tuple[Tensor, Tensor]:
    """The factors of one delta as they are stored; for all kinds but experts. `delta` has scaling 1."""
    ones = tuple(1 for _ in form.kernel)
    return delta.A.reshape(delta.rank, -1, *form.kernel).contiguous(), delta.B.contiguous().reshape(
        *delta.B.shape, *ones
    )


def pack_experts(deltas: Sequence[LowRank], rank: int) -> tuple[Tensor, Tensor]:
    """The factors of a stack of experts, each filled up with zeros to one rank. Deltas have scaling 1."""
    filled = [padded(delta, rank) for delta in deltas]
    a = torch.cat([delta.A for delta in filled])
    b = torch.stack([delta.B for delta in filled], dim=2)
    return a.contiguous(), b.flatten(1).contiguous()


def padded(delta: LowRank, rank: int) -> LowRank:
    """The same delta, filled up with zeros to a rank that is at least its own."""
    out, inside = delta.shape
    missing = rank - delta.rank
    return LowRank(
        torch.cat((delta.A, delta.A.new_zeros(missing, inside))),
        torch.cat((delta.B, delta.B.new_zeros(out, missing)), dim=1),
        delta.scaling,
    )


def stack_of(name: str) -> str:
    """The parameter that an expert's delta belongs to: its name without the [number]."""
    return name.rpartition("[")[0]


def holder_of(name: str) -> str:
    """The module that holds the parameter of an expert's delta."""
    return stack_of(name).rpartition(".")[0]


def adapted_kinds(forms: Mapping[str, Form]) -> dict[str, str]:
    """{module: kind} of deltas {name: form}; experts' stand for the module that holds their parameter."""
    return {holder_of(name) if form.kind == "parameter" else name: form.kind for name, form in forms.items()}


def stacks(names: Iterable[str]) -> dict[str, set[str]]:
    """{module: its parameters} of the names of experts' deltas."""
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(holder_of(name), set()).add(stack_of(name))
    return found
