"""Which elements of a delta are kept: by magnitude, exactly, or at random, reproducibly.

Everything here is a pure function of the elements' values and places. Magnitudes are selected by their float32 bit
patterns, so that the answer is exact and needs no second copy of a delta. Random numbers come from a hash of (stream,
seed, row, column): tiles, threads and devices never change a mask.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

Tiles = Callable[[], Iterable[Tensor]]
"""Reads (inputs, rows, columns) float32 tiles from the first to the last; the same bits each time."""

_LOW = 16  # bits of a pattern that the second histogram tells apart
_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15
_FIRST = -4658895280553007687  # 0xBF58476D1CE4E5B9
_SECOND = -7723592293110705685  # 0x94D049BB133111EB
_UNIT = 2.0**-53


# -- by magnitude -----------------------------------------------------------------------------------------------------


def thresholds(tiles: Tiles, counts: Sequence[int]) -> list[float]:
    """The magnitude of each input's counts[i]-th largest element; infinite for 0, which keeps nothing.

    Equal magnitudes stand or fall together: `abs(x) >= threshold` may keep more than the count. Two passes over the
    tiles: a histogram of the upper 15 bits of the magnitudes, then one of the lower 16 bits inside the bucket.
    """
    upper = _histograms(tiles, len(counts), _upper)
    buckets = [_bucket(histogram, count) for histogram, count in zip(upper, counts, strict=True)]
    lower = _histograms(tiles, len(counts), lambda bits, index: _lower(bits, buckets[index][0]))
    return [
        _value(bucket, _bucket(histogram, left)[0]) if count else math.inf
        for (bucket, left), histogram, count in zip(buckets, lower, counts, strict=True)
    ]


def _histograms(tiles: Tiles, inputs: int, read: Callable[[Tensor, int], Tensor]) -> list[Tensor]:
    totals = [torch.zeros(1 << _LOW, dtype=torch.int64) for _ in range(inputs)]
    for tile in tiles():
        for index in range(inputs):
            bits = tile[index].abs().flatten().view(torch.int32)
            totals[index] += torch.bincount(read(bits, index), minlength=1 << _LOW).cpu()
    return totals


def _upper(bits: Tensor, _index: int) -> Tensor:
    return bits >> _LOW


def _lower(bits: Tensor, bucket: int) -> Tensor:
    return bits[bits >> _LOW == bucket] & ((1 << _LOW) - 1)


def _bucket(histogram: Tensor, count: int) -> tuple[int, int]:
    """The bucket that holds the count-th largest, and which largest it is inside."""
    above = histogram.flip(0).cumsum(0)
    place = int(torch.searchsorted(above, max(count, 1)))
    place = min(place, len(histogram) - 1)
    before = int(above[place - 1]) if place else 0
    return len(histogram) - 1 - place, max(count, 1) - before


def _value(upper: int, lower: int) -> float:
    return float(torch.tensor([upper << _LOW | lower], dtype=torch.int32).view(torch.float32))


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
