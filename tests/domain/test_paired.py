"""Paired comparison, against published values and by laws."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as some

from registry.domain.paired import difference, mcnemar, t_quantile, t_tails

# Student's own data: hours of sleep gained with two drugs by the same ten patients.
FIRST = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SECOND = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]

bits = some.tuples(some.integers(0, 1), some.integers(0, 1))
reals = some.tuples(*[some.floats(-1e6, 1e6)] * 2)
pairs = some.lists(bits, min_size=1, max_size=60) | some.lists(reals, min_size=1, max_size=60)


def test_students_sleep_has_its_published_interval() -> None:
    found = difference(FIRST, SECOND)
    assert (found.method, found.examples) == ("student", 10)
    assert found.value == pytest.approx(1.58)
    assert (found.low, found.high) == (pytest.approx(0.7001142, abs=1e-7), pytest.approx(2.4598858, abs=1e-7))
    assert found.p == pytest.approx(0.00283289, abs=1e-8)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062047), (2, 4.3026527), (9, 2.2621572), (30, 2.0422725), (1000, 1.9623391)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, expected: float) -> None:
    assert t_quantile(freedom) == pytest.approx(expected, abs=5e-8)


@given(some.floats(0, 1e6))
def test_tails_have_their_closed_forms(t: float) -> None:
    assert t_tails(t, 1) == pytest.approx(1 - 2 * math.atan(t) / math.pi, abs=1e-12)
    assert t_tails(t, 2) == pytest.approx(1 - t / math.sqrt(2 + t * t), abs=1e-12)


@given(some.integers(0, 60), some.integers(0, 60))
def test_mcnemar_is_the_binomial_sum(lost: int, won: int) -> None:
    ways = sum(math.comb(lost + won, number) for number in range(min(lost, won) + 1))
    assert mcnemar(lost, won) == pytest.approx(min(1, 2 * ways / 2 ** (lost + won)), rel=1e-11)


def test_proportions_have_bonett_and_prices_interval() -> None:
    # Fagerland, Lydersen and Laake's example: of 21 children 1 changed one way and 7 the other.
    first, second = [1] + [0] * 7 + [1] + [0] * 12, [0] + [1] * 7 + [1] + [0] * 12
    found = difference(first, second)
    share_won, share_lost = 8 / 23, 2 / 23
    reach = 1.959963985 * math.sqrt((share_won + share_lost - (share_won - share_lost) ** 2) / 23)
    assert (found.method, found.value) == ("mcnemar", pytest.approx(6 / 21))
    assert (found.low, found.high) == (pytest.approx(6 / 23 - reach), pytest.approx(6 / 23 + reach))
    assert found.p == pytest.approx(0.0703125)


@given(pairs)
def test_the_other_way_round_it_is_the_same_with_the_other_sign(paired: list[tuple[float, float]]) -> None:
    first, second = [a for a, _ in paired], [b for _, b in paired]
    there, back = difference(first, second), difference(second, first)
    assert (there.value, there.p, there.method) == (-back.value, back.p, back.method)
    if there.low is None:
        assert back.low is back.high is None
    else:
        assert back.low is not None and back.high is not None
        assert (there.low, there.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
        assert there.low <= there.value + 1e-9 * abs(there.value)
    alike = difference(first, first)
    assert (alike.value, alike.p) == (0, None if len(first) == 1 and alike.method == "student" else 1)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    generator, rounds = random.Random(7), 1500
    for draw, truth in ((_answers, 0.1), (_scores, 0.3)):
        held = 0
        for _ in range(rounds):
            found = difference(*zip(*(draw(generator) for _ in range(40)), strict=True))
            assert found.low is not None and found.high is not None
            held += found.low <= truth <= found.high
        assert 0.935 <= held / rounds <= 0.985  # 0.95, give or take three standard errors and what is conservative


def _answers(generator: random.Random) -> tuple[int, int]:
    """Right or wrong, of two that agree on most: 0.2 of the time only the second is right, 0.1 only the first."""
    return generator.choices([(1, 0), (0, 1), (0, 0), (1, 1)], [0.1, 0.2, 0.3, 0.4])[0]


def _scores(generator: random.Random) -> tuple[float, float]:
    shared = generator.gauss(0, 5)
    return shared + generator.gauss(0, 1), shared + generator.gauss(0.3, 1)


def test_one_example_says_nothing_of_others() -> None:
    found = difference([0.5], [0.75])
    assert (found.value, found.low, found.high, found.p) == (0.25, None, None, None)
    constant = difference([0.5, 1.5], [0.75, 1.75])
    assert (constant.low, constant.high, constant.p) == (0.25, 0.25, 0)
