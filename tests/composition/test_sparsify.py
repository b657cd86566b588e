"""Selecting elements: exactly by magnitude, and at random in the same way whatever the tiles."""

import math

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.sparsify import Bracket, bracket, thresholds, uniform

CPU = torch.device("cpu")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference(values: torch.Tensor, count: int) -> float:
    return float(values.abs().flatten().sort(descending=True).values[count - 1]) if count else math.inf


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 9), st.data())
def test_a_threshold_is_the_kth_largest_magnitude_whatever_the_tiles(
    rows: int, columns: int, tile: int, data: st.DataObject
) -> None:
    values = random(2, rows, columns, seed=rows) * torch.tensor([1.0, 1e-20]).view(2, 1, 1)
    counts = [data.draw(st.integers(0, rows * columns)) for _ in range(2)]
    found = thresholds(lambda: values.split(tile, dim=1), counts)
    assert found == [reference(part, count) for part, count in zip(values, counts, strict=True)]


@pytest.mark.parametrize("count", [1, 2, 700, 1400, 1999, 2000])
def test_a_bracket_changes_nothing_whether_it_holds_the_answer_or_misses_it(count: int) -> None:
    values = random(1, 40, 50)
    wanted = reference(values, count)
    pattern = int(torch.tensor([wanted]).view(torch.int32))
    brackets = [
        bracket(values.flatten()[::7], count / 2000),
        Bracket(pattern, pattern),
        Bracket(pattern + 1, pattern + 9),
        Bracket(pattern - 9, pattern - 1),
        None,
    ]
    for chosen in brackets:
        assert thresholds(lambda: [values], [count], [chosen]) == [wanted]


def test_equal_magnitudes_and_zeros_are_counted_too() -> None:
    values = torch.tensor([[[3.0, -3.0, 0.0, -0.0, 1.0]]])
    assert [thresholds(lambda: [values], [count])[0] for count in range(6)] == [math.inf, 3, 3, 1, 0, 0]


def numpy_uniform(stream: int, seed: int, rows: int, columns: int) -> numpy.ndarray:
    golden = 0x9E3779B97F4A7C15

    def mixed(bits: numpy.ndarray) -> numpy.ndarray:
        bits = (bits ^ (bits >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
        return bits ^ (bits >> numpy.uint64(31))

    key = mixed(numpy.array([(stream + seed * golden) % 2**64], dtype=numpy.uint64))[0]
    places = numpy.arange(rows * columns, dtype=numpy.uint64).reshape(rows, columns)
    return (mixed(places * numpy.uint64(golden) + key) >> numpy.uint64(11)) * 2.0**-53


@settings(max_examples=25, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**32 - 1), st.integers(1, 7))
def test_random_numbers_are_those_of_a_reference_whatever_the_tiles(stream: int, seed: int, tile: int) -> None:
    rows, columns = 7, 11
    tiles = [
        uniform(stream, seed, start=start, shape=(min(tile, rows - start), columns), device=CPU)
        for start in range(0, rows, tile)
    ]
    assert numpy.array_equal(torch.cat(tiles).numpy(), numpy_uniform(stream, seed, rows, columns))


def test_random_numbers_look_uniform_and_streams_and_seeds_look_independent() -> None:
    first = uniform(1, 0, start=0, shape=(300, 400), device=CPU)
    assert abs(float(first.mean()) - 0.5) < 0.004 and abs(float(first.var()) - 1 / 12) < 0.001
    assert first.unique().numel() == first.numel()
    others = (
        uniform(2, 0, start=0, shape=(300, 400), device=CPU),
        uniform(1, 1, start=0, shape=(300, 400), device=CPU),
        first.roll(1, 0),
        first.roll(1, 1),
    )
    for other in others:
        assert abs(float(torch.corrcoef(torch.stack((first.flatten(), other.flatten())))[0, 1])) < 0.012
