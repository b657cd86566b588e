"""Doing a merge again, bit for bit: each way in which tools round, and whether it gives what a file holds.

A sum of r products depends on the order of its terms, which differs between machines. So an element counts as explained
if any order can give it: every step from ΔW to the stored value is monotone, and the ends of ΔW's interval of
uncertainty go through the same steps as ΔW itself.

Source: the bound on a float32 dot product is Higham 2002, section 3.1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composition.shards import DTYPES, OpenFiles, row_blocks, row_count, row_width
from composition.weights import Factors
from registry.formats.base_files import StoredTensor

_UNIT = 2.0**-24  # float32
_AT_ONCE = 1 << 15  # elements that are looked at closely at once


@dataclass(frozen=True, slots=True)
class Way:
    """How a tool rounds on its way to W + ΔW. Names are torch's dtypes; None leaves a step out.

    `factors`: what A and B are rounded to; `product`: B·A, before its scaling; `delta`: ΔW; `base`: W.
    A `healthy` one is what merging tools do; another one loses more than it must.
    """

    name: str
    healthy: bool
    factors: torch.dtype | None = None
    product: torch.dtype | None = None
    delta: torch.dtype | None = None
    base: torch.dtype | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of the base, and the same of the merged model."""

    base: StoredTensor
    merged: StoredTensor


@dataclass(frozen=True, slots=True)
class Count:
    """What a replay found. `mismatches`: elements whose bits differ; `unexplained`: those that no order of sums gives.

    `changed`: elements in which the merged tensor differs from the base; `expected`: those that the replay changes.
    """

    elements: int = 0
    mismatches: int = 0
    unexplained: int = 0
    changed: int = 0
    expected: int = 0
    largest: float = 0.0  # a mismatch, in units in the last place of the merged dtype
    infinite: int = 0


def ways(adapter: str, base: str, merged: str) -> list[Way]:
    """Every way worth trying, the commonest first; arguments are safetensors' names of dtypes."""
    own, last = DTYPES[adapter], DTYPES[merged]
    half = last != torch.float32
    found = [Way("one rounding", True)]
    if own != torch.float32:
        found.append(Way(f"delta in {_word(own)} first", True, delta=own))
        found.append(Way(f"product and delta in {_word(own)}", True, product=own, delta=own))
    if half and last != own:
        found.append(Way(f"delta in {_word(last)} first", False, delta=last))
        found.append(Way(f"factors and delta in {_word(last)}", False, factors=last, delta=last))
        found.append(Way(f"factors, product and delta in {_word(last)}", False, factors=last, product=last, delta=last))
    if half and DTYPES[base] != last:
        found += [replace(way, name=f"{way.name}, base in {_word(last)}", base=last) for way in found]
    return found


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows of a pair: W and what the merged model has, both exact in float32, and the factors' rows."""

    base: Tensor
    merged: Tensor
    left: Tensor
    right: Tensor
    start: int


def blocks(files: OpenFiles, pair: Pair, factors: Factors, *, every: int = 1) -> Iterator[Block]:
    """The blocks of a tensor, or each `every`-th of them."""
    right = factors.right.float().contiguous()
    for number, (start, stop) in enumerate(row_blocks(row_count(pair.base), row_width(pair.base))):
        if number % every == 0:
            base, merged = files.rows(pair.base, start, stop), files.rows(pair.merged, start, stop)
            yield Block(base.float(), merged.float(), factors.left[start:stop].float().contiguous(), right, start)


def replay(files: OpenFiles, pair: Pair, factors: Factors, way: Way, *, give_up: bool = False) -> Count:
    """Merge again in one way and compare. `give_up` stops at the first block that can't be explained."""
    total = Count()
    dtype = DTYPES[pair.merged.dtype]
    for block in blocks(files, pair, factors):
        total = _add(total, _compare(block, factors.scaling, way, dtype))
        if give_up and total.unexplained:
            break
    return total


def predict(block: Block, scaling: float, way: Way, dtype: torch.dtype) -> Tensor:
    """What a way gives for a block, in float32; products summed in whatever order this machine does."""
    left, right = _round(block.left, way.factors), _round(block.right, way.factors)
    delta = _round(_round(left @ right, way.product) * scaling, way.delta)
    return _round(_round(block.base, way.base) + delta, dtype)


def _compare(block: Block, scaling: float, way: Way, dtype: torch.dtype) -> Count:
    predicted = predict(block, scaling, way, dtype)
    start = _round(block.base, dtype)
    differs = predicted != block.merged
    places = differs.nonzero()
    unexplained = sum(
        _unexplained(block, places[i : i + _AT_ONCE], scaling, way=way, dtype=dtype)
        for i in range(0, len(places), _AT_ONCE)
    )
    distance = (predicted - block.merged)[differs].abs() / _last_place(predicted[differs], dtype)
    return Count(
        elements=predicted.numel(),
        mismatches=len(places),
        unexplained=unexplained,
        changed=int((block.merged != start).sum()),
        expected=int((predicted != start).sum()),
        largest=float(distance.max()) if len(places) else 0.0,
        infinite=int((~block.merged.isfinite()).sum()),
    )


def _unexplained(block: Block, places: Tensor, scaling: float, *, way: Way, dtype: torch.dtype) -> int:
    """How many of these elements (row, column) no order of the sum gives."""
    rows, columns = places[:, 0], places[:, 1]
    left = _round(block.left, way.factors)[rows].double()
    right = _round(block.right, way.factors).T[columns].double()
    terms = left * right
    exact, room = terms.sum(1), terms.abs().sum(1) * _UNIT * (terms.shape[1] + 4)
    base = _round(block.base[rows, columns], way.base).double()
    slack = base.abs() * _UNIT  # a product may be added to W in more than one part
    ends = []
    for side in (-1, 1):
        delta = _round(_round(exact + side * room, way.product) * scaling, way.delta)
        outward = side if scaling > 0 else -side
        ends.append(_round((base + delta + outward * slack).float(), dtype))
    found = block.merged[rows, columns]
    inside = (found >= torch.minimum(*ends)) & (found <= torch.maximum(*ends))
    return int((~inside).sum())


def _round(values: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The values rounded to a dtype, still in their own."""
    return values if dtype is None or dtype == values.dtype else values.to(dtype).to(values.dtype)


def _last_place(values: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.finfo(dtype)
    _, exponent = torch.frexp(values.double().abs().clamp(min=limits.tiny))
    return torch.exp2(exponent.double() - 1) * limits.eps


def _add(left: Count, right: Count) -> Count:
    return Count(
        left.elements + right.elements,
        left.mismatches + right.mismatches,
        left.unexplained + right.unexplained,
        left.changed + right.changed,
        left.expected + right.expected,
        max(left.largest, right.largest),
        left.infinite + right.infinite,
    )
