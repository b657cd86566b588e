"""A base model's tensor index, and how an adapter's module names match it."""

from dataclasses import dataclass
from functools import cached_property

from registry.domain.digest import base_fingerprint


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
