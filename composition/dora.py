"""DoRA: the true delta of a layer whose direction and magnitude were trained apart.

    D = scaling · B A,  Δ = diag(m / |W + D|) (W + D) - W,  with the norm of each row
    or, where LyCORIS was told so (wd_on_output=False), with that of each input's columns

W is the base's weight, out x in: an embedding's is transposed, a convolution's flattened, a Conv1D's turned round. Δ
has full rank, so that it is computed when it is needed, and a recipe must truncate it.
Source: Liu et al. 2024, arXiv 2402.09353, equation 5; peft 0.21.2, tuners/lora/dora.py; lycoris-lora 4.1.3,
functional/general.py, weight_decompose.
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
    """What makes a delta of a direction. `weight` reads the base's weight: (out, in·kernel), float64.

    magnitude: (out,), or `inward` (in,).
    """

    magnitude: Tensor
    weight: Callable[[], Tensor]
    inward: bool = False

    def factors(self, squares: Tensor) -> Tensor:
        """m / |W + D|: (out, 1), or inward (1, in·kernel). squares: the sums of W + D squared over the other side."""
        magnitude = self.magnitude.double()
        if not self.inward:
            return (magnitude / squares.sqrt()).unsqueeze(1)
        kernel = len(squares) // len(magnitude)
        norms = squares.reshape(len(magnitude), kernel).sum(1).sqrt()
        return (magnitude / norms).repeat_interleave(kernel).unsqueeze(0)

    def delta(self, direction: LowRank) -> LowRank:
        """The true delta, with an identity as one of its factors. Raises InvalidAdapter where a row has no length."""
        weight = self.weight()
        moved = weight + direction.dense()
        delta = self.factors(moved.square().sum(0 if self.inward else 1)) * moved - weight
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

    return Decomposed(magnitude.flatten(), weight, "magnitude_in" in module.tensors)
