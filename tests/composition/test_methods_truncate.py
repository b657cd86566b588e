"""What a truncation's rules keep, against their definitions on dense singular values, kohya's included."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from composition.low_rank import LowRank
from composition.methods.truncate import truncated
from registry.domain.methods import validate
from tests.composition.method_cases import delta, distance


def index_sv_cumulative(values: torch.Tensor, target: float) -> int:
    return next(i for i in range(len(values)) if float(values[: i + 1].sum() / values.sum()) >= target - 1e-12)


def index_sv_fro(values: torch.Tensor, target: float) -> int:
    return index_sv_cumulative(values.square(), target**2)


def index_sv_ratio(values: torch.Tensor, target: float) -> int:
    return max(0, int((values > values[0] / target).sum()) - 1)


RULES = {
    "sv_cumulative": lambda s, x: index_sv_cumulative(s, x) + 1,
    "sv_fro": lambda s, x: index_sv_fro(s, x) + 1,
    "sv_ratio": lambda s, x: index_sv_ratio(s, x) + 1,
    "energy": lambda s, x: index_sv_cumulative(s.square(), x) + 1,
    "error": lambda s, x: max(1, next(k for k in range(len(s) + 1) if s[k:].norm() <= (x + 1e-12) * s.norm())),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(RULES)), st.integers(0, 50), st.floats(0.02, 0.98), st.sampled_from([None, 3, 9]))
def test_a_rule_keeps_the_rank_that_its_definition_says(rule: str, seed: int, share: float, rank: int | None) -> None:
    source = delta(seed, out=20, inside=17, rank=8)
    target = 1 / share if rule == "sv_ratio" else share
    params = {rule: target} if rank is None else {rule: target, "rank": rank}
    result = truncated(source, validate("truncate", params, inputs=1))
    values = torch.linalg.svdvals(source.dense())[:8]
    kept = min(RULES[rule](values, target), rank or 8)
    assert result.delta.rank == kept
    assert result.error == pytest.approx(float(values[kept:].norm()), rel=1e-6, abs=1e-6)
    if rule == "energy" and rank is None:
        assert 1 - (result.error / result.norm) ** 2 >= target - 1e-9
    if rule == "error" and rank is None:
        assert result.error <= target * result.norm * (1 + 1e-9)


@pytest.mark.parametrize("params", [{"energy": 1.0}, {"error": 0.0}, {"sv_fro": 1.0}, {"sv_cumulative": 1.0}])
def test_a_rule_that_keeps_all_changes_nothing(params: dict[str, float]) -> None:
    source = delta(1)
    assert truncated(source, validate("truncate", params, inputs=1)).delta is source


@pytest.mark.parametrize("params", [{"energy": 0.5}, {"error": 0.5}, {"sv_ratio": 2.0}, {"sv_cumulative": 0.0}])
def test_zeros_keep_nothing(params: dict[str, float]) -> None:
    for rank in (0, 2):
        zeros = LowRank(torch.zeros(rank, 5), torch.zeros(6, rank))
        result = truncated(zeros, validate("truncate", params, inputs=1))
        assert (result.delta.rank, result.error) == (0, 0.0)


def test_cancelling_factors_are_seen_through() -> None:
    source = delta(1) + delta(2) - delta(2)
    result = truncated(source, validate("truncate", {"energy": 1.0}, inputs=1)).delta
    assert result.rank == 3
    assert distance(result.dense(), delta(1).dense()) < 1e-6
    assert math.isclose(source.norm(), delta(1).norm(), rel_tol=1e-6)
