"""What an adapter is, read from its configuration and tensor header: modules, rank, alpha, scaling, variants.

No bytes of a tensor are needed for any of it. `registry.formats` fills these; the catalog stores them.
"""

import re
from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any, Self

_LAYER = re.compile(r"(?<![^.])[0-9]+(?![^.])")  # a component of a module's path that is a number


def layers_alike(module: str) -> str:
    """A module's path with * for the layer's number, the same for every layer."""
    return _LAYER.sub("*", module)


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor of a file: where its bytes lie.

    `start` and `end` are byte offsets from the beginning of the *file* (the header is already counted in).
    `dtype` is the safetensors name: F32, BF16, …; `shape` is outermost dimension first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """One adapted module.

    `name` is its path in the adapter without PEFT's `base_model.model.`. `kind` says how its delta is stored:
    linear | embedding | conv | parameter (target_parameters) | saved (modules_to_save) | tokens (trainable tokens)
    | bias | loha | lokr | ia3. `rank` 0 and `alpha`, `scaling` 0.0 where they don't apply (saved, tokens, bias, ia3).
    Of an IA3 vector's sides, `in_features` and `out_features`, the one that isn't multiplied is 0.
    `scaling` is the factor in front of B·A: alpha / rank, rsLoRA alpha / sqrt(rank).
    `tensors` maps a role (A, B, magnitude, bias_B, scale, full …) to the tensor's name in the file.
    `base_shape` is the shape of the base's tensor, as far as the adapter tells (linear: out, in). `experts` is how
    many deltas a 3-D parameter stacks. `base_tensor` is the base's tensor that it adapts, once matched, or None;
    "component/name" in a base of several components.
    """

    name: str
    kind: str
    rank: int
    alpha: float
    scaling: float
    in_features: int
    out_features: int
    dtype: str
    variants: tuple[str, ...] = ()
    tensors: dict[str, str] = field(default_factory=dict)
    base_shape: tuple[int, ...] = ()
    experts: int = 1
    base_tensor: str | None = None

    def multiplies(self, outputs: int, inputs: int) -> bool:
        """Whether a vector of IA3 is as long as the side of this matrix that it multiplies."""
        return (self.out_features or outputs, self.in_features or inputs) == (outputs, inputs)

    def folds(self, shape: tuple[int, ...]) -> bool:
        """Whether this is a LoHa or LoKr of a convolution of this shape, its kernel folded into its inputs."""
        is_known = self.kind in ("loha", "lokr") and shape[:1] == self.base_shape[:1]
        return is_known and len(shape) > 2 and prod(shape) == prod(self.base_shape)

    def unfolded(self, shape: tuple[int, ...]) -> Self:
        """The same in the base's shape, where it folds that; else itself."""
        if not self.folds(shape):
            return self
        variants = tuple(sorted({*self.variants, "conv"}))
        return replace(self, in_features=shape[1], base_shape=shape, variants=variants)

    def to_document(self) -> dict[str, Any]:
        """Plain JSON; `from_document` reads it back."""
        return {**asdict(self), "variants": list(self.variants), "base_shape": list(self.base_shape)}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        tuples = {key: tuple(document[key]) for key in ("variants", "base_shape")}
        return cls(**{**document, **tuples})


@dataclass(frozen=True, slots=True)
class AdapterSummary:
    """One adapter as a whole, small enough for every look-up.

    `rank` is the largest rank, `alpha` the configuration's (0.0 where it has none), `ranks` the modules that differ
    from the largest {module: rank}. `targets` are the last components of the module names, sorted. `variants` is
    everything that a plain LoRA reader would get wrong: rslora, rank_pattern, alpha_pattern, dora, lora_bias, bias,
    modules_to_save, embedding, conv, target_parameters, fan_in_fan_out, …, sorted. `dtype` is the safetensors name
    (the commonest, where they differ). `base_name` is what the configuration names.
    """

    format: str
    peft_type: str
    rank: int
    alpha: float
    ranks: dict[str, int]
    targets: tuple[str, ...]
    variants: tuple[str, ...]
    dtype: str
    parameters: int
    base_name: str | None = None
    base_revision: str | None = None
    task_type: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """All that is known of an adapter without reading a weight. `config` is the whole configuration as parsed."""

    summary: AdapterSummary
    modules: tuple[ModuleSpec, ...]
    config: dict[str, Any] = field(default_factory=dict)
