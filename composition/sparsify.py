"""Which elements of a delta are kept: by magnitude, exactly, or at random, reproducibly.

Everything here is a pure function of the elements' values and places. Magnitudes are selected by their float32 bit
patterns, so that the answer is exact and needs no second copy of a delta. Random numbers come from a hash of (stream,
seed, row, column): tiles, threads and devices never change a mask.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Tiles = Callable[[], Iterable[Tensor]]
"""Reads (inputs, rows, columns) float32 tiles from the first to the last; the same bits each time."""

_HALF = 16  # bits of a pattern that each of the two histograms tells apart
_MOST = 0.1  # the share of all elements that a bracket may hold, by its sample
_SAFETY = 4.5  # standard deviations on both sides of a sampled quantile
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB
_UNIT = 2.0**-53


# -- by magnitude -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bracket:
    """Patterns from `low` to `high`, both included."""

    low: int
    high: int

    def parted(self, patterns: Tensor) -> tuple[int, NDArray[np.int32]]:
        """How many patterns lie above, and those inside, on the CPU. patterns: (n,), int32."""
        if patterns.is_cuda:
            above = patterns > self.high
            return int(above.sum()), patterns[(patterns >= self.low) & ~above].cpu().numpy()
        array = patterns.numpy()  # compares ten times as fast as torch
        over = array > self.high
        count = int(np.count_nonzero(over))
        return count, array[np.flatnonzero(np.bitwise_xor(over, array >= self.low, out=over))]


def thresholds(tiles: Tiles, counts: Sequence[int], brackets: Sequence[Bracket | None] = ()) -> list[float]:
    """The magnitude of each input's counts[i]-th largest element; infinite for 0, which keeps nothing.

    Equal magnitudes stand or fall together: `abs(x) >= threshold` may keep more than the count. Brackets (one per
    input) save time and change nothing: one pass over the tiles keeps what lies inside. Where one misses, or without
    them, two passes find the upper and then the lower half of each pattern.
    """
    found: list[int | None] = [None] * len(counts)
    known = [item for item in brackets if item is not None]
    if len(known) == len(counts):
        found = _within(tiles, counts, known)
    if any(count and pattern is None for count, pattern in zip(counts, found, strict=True)):
        found = _anywhere(tiles, counts)
    return [_value(pattern) if count else math.inf for count, pattern in zip(counts, found, strict=True)]


def _within(tiles: Tiles, counts: Sequence[int], brackets: Sequence[Bracket]) -> list[int | None]:
    """The patterns of the counts[i]-th largest, or None where a bracket doesn't hold it."""
    above, inside = [0] * len(counts), [bytearray() for _ in counts]  # small arrays would hold the heap in pieces
    for tile in tiles():
        for index, chosen in enumerate(brackets):
            more, patterns = chosen.parted(_patterns(tile[index]))
            above[index] += more
            inside[index] += patterns.data
    return [_largest(parts, count - more) for parts, count, more in zip(inside, counts, above, strict=True)]


def _largest(data: bytearray, place: int) -> int | None:
    """The place-th largest of int32 patterns, counted from 1, or None if there is no such place."""
    patterns = np.frombuffer(data, dtype=np.int32)
    if not 0 < place <= len(patterns):
        return None
    return int(np.partition(patterns, len(patterns) - place)[len(patterns) - place])


def _patterns(values: Tensor) -> Tensor:
    return values.abs().flatten().view(torch.int32)


def bracket(sample: Tensor, share: float) -> Bracket | None:
    """Where a sample says that the magnitude is above which `share` of all elements lie; None if many others are."""
    patterns = np.sort(_patterns(sample.float()).cpu().numpy())[::-1]
    middle = share * len(patterns)
    margin = _SAFETY * math.sqrt(len(patterns) * share * (1 - share)) + 1
    first, last = max(0, int(middle - margin)), min(len(patterns) - 1, int(middle + margin))
    low, high = int(patterns[last]), int(patterns[first])
    inside = np.count_nonzero((patterns >= low) & (patterns <= high))
    return Bracket(low, high) if inside <= _MOST * len(patterns) else None


def _anywhere(tiles: Tiles, counts: Sequence[int]) -> list[int | None]:
    bins = [1 << _HALF] * len(counts)
    upper = _histograms(tiles, bins, lambda bits, _: torch.bincount(bits >> _HALF, minlength=1 << _HALF).cpu())
    buckets = [_bucket(histogram, count) for histogram, count in zip(upper, counts, strict=True)]
    lower = _histograms(tiles, bins, lambda bits, index: _lower(bits, buckets[index][0]))
    return [
        bucket << _HALF | _bucket(histogram, left)[0] for (bucket, left), histogram in zip(buckets, lower, strict=True)
    ]


def _lower(bits: Tensor, bucket: int) -> Tensor:
    inside = bits[bits >> _HALF == bucket] & ((1 << _HALF) - 1)
    return torch.bincount(inside, minlength=1 << _HALF).cpu()


def _histograms(tiles: Tiles, bins: Sequence[int], count: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
    totals = [torch.zeros(size, dtype=torch.int64) for size in bins]
    for tile in tiles():
        for index, total in enumerate(totals):
            total += count(_patterns(tile[index]), index)
    return totals


def _bucket(histogram: Tensor, count: int) -> tuple[int, int]:
    """The bucket that holds the count-th largest, and which largest it is inside."""
    above = histogram.flip(0).cumsum(0)
    place = min(int(torch.searchsorted(above, max(count, 1))), len(histogram) - 1)
    before = int(above[place - 1]) if place else 0
    return len(histogram) - 1 - place, max(count, 1) - before


def _value(pattern: int | None) -> float:
    return float(torch.tensor([pattern or 0], dtype=torch.int32).view(torch.float32))


# -- at random --------------------------------------------------------------------------------------------------------


def uniform(stream: int, seed: int, *, start: int, shape: tuple[int, int], device: torch.device) -> Tensor:
    """Numbers in [0, 1), float64, for rows from `start` on of a matrix with shape[1] columns.

    Element (row, column) is the SplitMix64 finaliser of a key and the element's number in the matrix.
    Source: Steele, Lea and Flood 2014, figure 9.
    """
    rows, columns = shape
    key = int(_mixed(torch.tensor([_wrapped(stream + seed * _GOLDEN)]))[0])
    first = start * columns
    numbers = torch.arange(first, first + rows * columns, dtype=torch.int64, device=device)
    bits = _mixed(numbers.mul_(_GOLDEN).add_(key))
    return _shifted(bits, 11).double().mul_(_UNIT).view(rows, columns)


def _mixed(bits: Tensor) -> Tensor:
    bits.bitwise_xor_(_shifted(bits, 30)).mul_(_FIRST)
    bits.bitwise_xor_(_shifted(bits, 27)).mul_(_SECOND)
    return bits.bitwise_xor_(_shifted(bits, 31))


def _shifted(bits: Tensor, by: int) -> Tensor:
    """A logical shift to the right: int64 shifts in the sign, which is masked away."""
    return (bits >> by).bitwise_and_((1 << (64 - by)) - 1)


def _wrapped(number: int) -> int:
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)
