"""What is wrong with a merged tensor: which known mistake gives exactly these numbers, or the nearest description.

The residual (merged minus base) is compared with the delta on a sample of rows: its length along the delta, along the
delta turned round, and along each of its r products. A mistake that this suggests is then replayed on the whole tensor
and named only if the replay leaves nothing unexplained.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composition.replay import Block, Count, Pair, Way, blocks, predict, replay
from composition.shards import DTYPES, OpenFiles, row_count, row_width
from composition.weights import Factors
from registry.domain.spec import ModuleSpec

_SAMPLE = 1 << 22  # elements that estimates are made of
_NEAR = 0.02  # how far an estimated factor may lie from a mistake's, relative
_STEPS = 8  # of the secant method

# Mistakes' names, as they stand in the answer.
NOT_APPLIED = "not_applied"
UNDERFLOW = "underflow"
INFINITE = "not_finite"
ROUNDING = "rounding_order"
TRANSPOSED = "transposed"
PARTIAL = "partial_rank"
SCALED = "scaled"
FOREIGN = "something_else"


@dataclass(frozen=True, slots=True)
class Finding:
    """A mistake with its name and a sentence; without a name, the numbers leave it open. `factor`: of the delta."""

    fault: str | None
    text: str
    factor: float | None = None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A module that no healthy way of merging explains."""

    module: ModuleSpec
    pair: Pair
    factors: Factors
    ways: list[Way]
    count: Count


def diagnose(files: OpenFiles, suspect: Suspect) -> Finding:
    """Name what is wrong with a module."""
    count = suspect.count
    if count.infinite:
        return Finding(INFINITE, f"{count.infinite} merged weights are NaN or infinite")
    if not count.changed:
        return Finding(NOT_APPLIED, "the merged tensor is the base's, bit for bit")
    for way in (way for way in suspect.ways if not way.healthy):
        if _explains(files, suspect, suspect.factors, way):
            share = count.mismatches / count.elements
            return Finding(ROUNDING, f"{way.name}: {share:.1%} of the weights differ from the sum rounded once", 1.0)
    measured = _measure(files, suspect)
    named = _scaled(files, suspect, measured) or _turned(files, suspect) or _partial(files, suspect, measured)
    return named or _nearest(suspect, measured)


# -- measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Sums over the sample. `along`: of the residual with the delta; `parts`: with each of its products (rank,).

    `factor` is the multiple of the delta that gives as long a residual after rounding, `error` its standard error.
    `healthy` is the cosine that a healthy merge would have: rounding alone takes it below 1.
    """

    length: float
    delta: float
    along: float
    parts: Tensor
    factor: float
    error: float
    healthy: float

    @property
    def cosine(self) -> float:
        return _cosine(self.along, self.length, self.delta)


def _measure(files: OpenFiles, suspect: Suspect) -> _Measured:
    scaling, parts = suspect.factors.scaling, torch.zeros(suspect.factors.left.shape[1], dtype=torch.float64)
    elements, length, delta_length, healthy, healthy_length = 0, 0.0, 0.0, 0.0, 0.0
    for block in _sample(files, suspect):
        residual, expected = _residual(block.merged, block, suspect), _expected(block, suspect, 1.0)
        left, right = block.left.double(), block.right.double()
        delta = scaling * (left @ right)
        parts += ((left.T @ residual) * right).sum(1)
        elements, length = elements + residual.numel(), length + float(residual.square().sum())
        delta_length += float(delta.square().sum())
        healthy, healthy_length = (
            healthy + float((expected * delta).sum()),
            healthy_length + float(expected.square().sum()),
        )
    along = scaling * float(parts.sum())
    factor = _factor(files, suspect, along, delta_length)
    rest = max(length - 2 * factor * along + factor**2 * delta_length, 0.0)
    error = math.sqrt(rest / elements / delta_length) if delta_length else 0.0
    return _Measured(length, delta_length, along, parts, factor, error, _cosine(healthy, healthy_length, delta_length))


def _cosine(product: float, left: float, right: float) -> float:
    """From a scalar product and two squared lengths."""
    return product / math.sqrt(left * right) if left * right > 0 else 0.0


def _factor(files: OpenFiles, suspect: Suspect, along: float, delta_length: float) -> float:
    """The factor of the delta whose rounded sum has the same length along the delta: rounding swallows small deltas."""
    if not delta_length:
        return 0.0

    def miss(factor: float) -> float:
        return _rounded_along(files, suspect, factor) - along

    low, high = 1.0, along / delta_length
    before, now = miss(low), miss(high)
    for _ in range(_STEPS):
        if high == low or now == before or abs(now) <= 1e-7 * abs(along):
            break
        low, high, before = high, high - now * (high - low) / (now - before), now
        now = miss(high)
    return high


def _rounded_along(files: OpenFiles, suspect: Suspect, factor: float) -> float:
    total = 0.0
    for block in _sample(files, suspect):
        delta = suspect.factors.scaling * (block.left.double() @ block.right.double())
        total += float((_expected(block, suspect, factor) * delta).sum())
    return total


def _sample(files: OpenFiles, suspect: Suspect) -> Iterator[Block]:
    base = suspect.pair.base
    every = max(1, row_count(base) * row_width(base) // _SAMPLE)
    return blocks(files, suspect.pair, suspect.factors, every=every)


def _residual(merged: Tensor, block: Block, suspect: Suspect) -> Tensor:
    return merged.double() - block.base.to(DTYPES[suspect.pair.merged.dtype]).double()


def _expected(block: Block, suspect: Suspect, factor: float) -> Tensor:
    """The residual of a merge of `factor` times the delta."""
    scaling = factor * suspect.factors.scaling
    return _residual(predict(block, scaling, suspect.ways[0], DTYPES[suspect.pair.merged.dtype]), block, suspect)


# -- naming -----------------------------------------------------------------------------------------------------------


def _mistakes(module: ModuleSpec) -> list[tuple[str, str, float]]:
    """Known mistakes as (name, sentence, factor of the delta)."""
    rank, scaling = module.rank, module.scaling
    found = [
        ("applied_twice", "the delta was added twice", 2.0),
        ("scaling_missing", f"the scaling of {scaling:g} was left out", 1 / scaling if scaling else 1.0),
        ("scaling_doubled", f"the scaling of {scaling:g} was applied twice", scaling),
    ]
    if "rslora" in module.variants:
        found.append(("rslora_ignored", f"scaled by alpha/r instead of alpha/sqrt(r), r {rank}", rank**-0.5))
    elif rank:  # a LoKr of two whole matrices has none
        found.append(("rslora_assumed", f"scaled by alpha/sqrt(r) instead of alpha/r, r {rank}", rank**0.5))
    signed = [("sign_flipped", "the delta was subtracted", -1.0)]
    signed += [(f"{name}_and_sign_flipped", f"{text}, and it was subtracted", -factor) for name, text, factor in found]
    return [(name, text, factor) for name, text, factor in [*signed[:1], *found, *signed[1:]] if factor != 1.0]


def _scaled(files: OpenFiles, suspect: Suspect, measured: _Measured) -> Finding | None:
    near = [
        mistake
        for mistake in _mistakes(suspect.module)
        if abs(measured.factor / mistake[2] - 1) <= max(_NEAR, 4 * measured.error / abs(mistake[2]))
    ]
    for _, _, factor in near:
        factors = replace(suspect.factors, scaling=factor * suspect.factors.scaling)
        if any(_explains(files, suspect, factors, way) for way in suspect.ways):
            same = [mistake for mistake in near if math.isclose(mistake[2], factor, rel_tol=1e-6)]
            return Finding(same[0][0], ", or ".join(text for _, text, _ in same), factor)
    return None


def _turned(files: OpenFiles, suspect: Suspect) -> Finding | None:
    factors = suspect.factors
    if factors.left.shape[0] != factors.right.shape[1]:
        return None
    turned = replace(factors, left=factors.right.T, right=factors.left.T)
    for sign, text in ((1.0, ""), (-1.0, ", and subtracted")):
        signed = replace(turned, scaling=sign * factors.scaling)
        if any(_explains(files, suspect, signed, way) for way in suspect.ways):
            return Finding(TRANSPOSED, f"the transpose of the delta was added{text}", sign)
    return None


def _partial(files: OpenFiles, suspect: Suspect, measured: _Measured) -> Finding | None:
    """Whether only some of the r products were added: the least-squares weight of each is then 0 or 1."""
    gram = torch.zeros(len(measured.parts), len(measured.parts), dtype=torch.float64)
    for block in _sample(files, suspect):
        gram += block.left.double().T @ block.left.double()
    right = suspect.factors.right.double()
    gram *= right @ right.T
    weights = torch.linalg.lstsq(gram, measured.parts[:, None], driver="gelsd").solution[:, 0] / suspect.factors.scaling
    kept = weights > 0.5
    if not 0 < int(kept.sum()) < len(kept):
        return None
    factors = replace(suspect.factors, left=suspect.factors.left[:, kept], right=suspect.factors.right[kept])
    if any(_explains(files, suspect, factors, way) for way in suspect.ways):
        return Finding(PARTIAL, f"only {int(kept.sum())} of the {len(kept)} ranks were added")
    return None


def _nearest(suspect: Suspect, measured: _Measured) -> Finding:
    """What the residual says where no replay settles it."""
    count = suspect.count
    off = abs(measured.factor - 1)
    if abs(measured.cosine) < 0.5 * measured.healthy:
        return Finding(
            FOREIGN, f"its difference to the base is not this adapter's delta (cosine {measured.cosine:.3f})"
        )
    if off > max(4 * measured.error, 2e-4):
        text = f"the delta was added {measured.factor:.5g} times (± {measured.error:.1g})"
        return Finding(SCALED, text, measured.factor)
    share = count.mismatches / count.elements
    if count.largest <= 2.0:
        text = f"{share:.2%} of the weights are off by {count.largest:.0f} in the last place or less"
        return Finding(None, f"{text}, as in a merge in half precision", measured.factor)
    return Finding(FOREIGN, f"{share:.2%} of the weights differ, by up to {count.largest:.3g} in the last place")


def _explains(files: OpenFiles, suspect: Suspect, factors: Factors, way: Way) -> bool:
    return not replay(files, suspect.pair, factors, way, give_up=True).unexplained
