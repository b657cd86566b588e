"""DoRA: the true delta of a layer whose direction and magnitude were trained apart.

    D = scaling · B A,  Δ = diag(m / |W + D|) (W + D) - W,  with the norm of each row

W is the base's weight, out x in: an embedding's is transposed, a convolution's flattened, a Conv1D's turned round. Δ
has full rank, so that it is computed when it is needed, and a recipe must truncate it.
Source: Liu et al. 2024, arXiv 2402.09353, equation 5; peft 0.21.2, tuners/lora/dora.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from composition.base_weights import BaseWeights
from composition.low_rank import LowRank, is_finite
from composition.whole import whole
from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.domain.spec import ModuleSpec


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed:
    """What makes a delta of a direction. magnitude: (out,); `weight` reads the base's weight: (out, in), float64."""

    magnitude: Tensor
    weight: Callable[[], Tensor]

    def delta(self, direction: LowRank) -> LowRank:
        """The true delta, with an identity as one of its factors. Raises InvalidAdapter where a row has no length."""
        weight = self.weight()
        moved = weight + direction.dense()
        delta = (self.magnitude.double() / moved.norm(dim=1)).unsqueeze(1) * moved - weight
        if not is_finite(delta):
            raise InvalidAdapter("DoRA", "a row of the base's weight and its direction cancel")
        return whole(delta.float())


def decomposed(module: ModuleSpec, magnitude: Tensor, base: BaseWeights, subject: str) -> Decomposed:
    """DoRA of a module. Raises UnsupportedAdapter if its tensor in the base isn't known, or isn't all of its own."""
    label, shape = module.base_tensor, module.base_shape
    if label is None:
        reason = "which tensor of the base it adapts isn't known; register the base and push the adapter again"
        raise UnsupportedAdapter(subject, f"dora in the module {module.name}", reason)
    turned = "fan_in_fan_out" in module.variants
    stored = shape[::-1] if turned else shape

    def weight() -> Tensor:
        tensor = base.read(label, stored)
        return tensor.T if turned or module.kind == "embedding" else tensor.flatten(1)

    return Decomposed(magnitude.flatten(), weight)
