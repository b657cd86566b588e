"""Paired comparison: by how much one version is better than another on the same examples, and how sure that is.

Results that are all 0 or 1 are proportions: Bonett and Price's adjusted Wald interval, and McNemar's exact test. All
others: Student's paired t, which is exact for normal differences and near for a few dozen of any. Nothing is drawn at
random, so the same results have the same interval everywhere. Intervals of several comparisons are not widened.

Source: Bonett and Price, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired
data", J. Educ. Behav. Stat. 37 (2012), recommended by Fagerland, Lydersen and Laake, Stat. Med. 33 (2014); McNemar,
Psychometrika 12 (1947); Student, Biometrika 6 (1908).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + LEVEL) / 2)
_TINY = 1e-300
_STEPS = 10_000  # of the continued fraction; it needs about the root of the degrees of freedom


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of the second ones minus the firsts', its interval, and the chance of as much if they were alike.

    `low`, `high` and `p` are None where one example says nothing of others.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    examples: int
    method: str  # mcnemar | student


def difference(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two results of each of the same examples; of one example at least."""
    if all(value in (0, 1) for value in (*first, *second)):
        return _of_proportions(first, second)
    return _of_means([after - before for before, after in zip(first, second, strict=True)])


def _of_proportions(first: Sequence[float], second: Sequence[float]) -> Difference:
    count = len(first)
    lost = sum(before > after for before, after in zip(first, second, strict=True))
    won = sum(before < after for before, after in zip(first, second, strict=True))
    share_lost, share_won = (lost + 1) / (count + 2), (won + 1) / (count + 2)
    centre = share_won - share_lost
    reach = _Z * math.sqrt((share_won + share_lost - centre**2) / (count + 2))
    low, high = max(-1.0, centre - reach), min(1.0, centre + reach)
    return Difference((won - lost) / count, low, high, mcnemar(lost, won), count, "mcnemar")


def _of_means(differences: Sequence[float]) -> Difference:
    count = len(differences)
    mean = math.fsum(differences) / count
    if count == 1:
        return Difference(mean, None, None, None, 1, "student")
    variance = math.fsum((value - mean) ** 2 for value in differences) / (count - 1)
    error = math.sqrt(variance / count)
    if error == 0:
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0, count, "student")
    reach = t_quantile(count - 1) * error
    return Difference(mean, mean - reach, mean + reach, t_tails(abs(mean) / error, count - 1), count, "student")


def mcnemar(lost: int, won: int) -> float:
    """The chance that as many or more of the examples that differ go one way, if both ways were as likely."""
    differing = lost + won
    whole = math.lgamma(differing + 1) - differing * math.log(2)
    ways = (
        math.exp(whole - math.lgamma(number + 1) - math.lgamma(differing - number + 1))
        for number in range(min(lost, won) + 1)
    )
    return min(1.0, 2 * math.fsum(ways))


def t_tails(t: float, freedom: int) -> float:
    """The chance of a t beyond ±`t` with so many degrees of freedom.

    Source: DLMF 8.17.8 and 8.17.22, the incomplete beta function as a continued fraction.
    """
    x = freedom / (freedom + t * t)
    a, b = freedom / 2, 0.5
    if x > (a + 1) / (a + b + 2):
        return 1.0 - _beta_share(t * t / (freedom + t * t), b, a)  # 1 - x would lose what a small t is
    return _beta_share(x, a, b)


def _beta_share(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), where its continued fraction converges fast."""
    if x <= 0:
        return 0.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    up, down = 1.0, 1 / _off_zero(1 - (a + b) * x / (a + 1))
    ratio = down
    for step in range(1, _STEPS):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        for term in (even, odd):
            down = 1 / _off_zero(1 + term * down)
            up = _off_zero(1 + term / up)
            ratio *= up * down
        if abs(up * down - 1) < 1e-15:
            break
    return front * ratio / a


def _off_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


@lru_cache(maxsize=1024)
def t_quantile(freedom: int) -> float:
    """The t beyond which, on both sides, lies what the level leaves out."""
    low, high = 0.0, 1.0
    while t_tails(high, freedom) > 1 - LEVEL:
        high *= 2
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if t_tails(middle, freedom) > 1 - LEVEL else (low, middle)
    return (low + high) / 2
