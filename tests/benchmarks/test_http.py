"""What the benchmark of look-ups reports follows from what was measured."""

import os

import pytest

from benchmarks.http import OF_EMPTY, OF_MLFLOW, missed
from benchmarks.http_load import Figures, processor_seconds

ROW = {"database": "sqlite", "versions": 10, "workers": 4, "asked": "kept"}


def test_a_ratio_is_the_median_of_rounds_that_were_side_by_side() -> None:
    ours, theirs = Figures([10.0, 30.0, 90.0], [0.001, 0.002], 0.5), Figures([10.0, 10.0, 10.0])
    assert ours.times_of(theirs) == 3.0
    assert (ours.rate, ours.cpu_each) == (30.0, 250_000.0)
    assert ours.percentile(50) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("found", "lines"),
    [
        ({"x empty": OF_EMPTY, "x MLflow": OF_MLFLOW}, 0),
        ({"x empty": OF_EMPTY, "x MLflow": None}, 0),
        ({"x empty": 0.49, "x MLflow": 89.9}, 2),
        ({"x empty": 0.49, "x MLflow": 1.0, "asked": "computed"}, 0),
    ],
)
def test_only_kept_look_ups_have_a_target(found: dict[str, float | None], lines: int) -> None:
    assert len(missed([{**ROW, **found}])) == lines


def test_processor_time_is_that_of_a_whole_group() -> None:
    before = processor_seconds(os.getpgrp())
    sum(number * number for number in range(1_000_000))
    assert before >= 0.0
    assert processor_seconds(os.getpgrp()) > before
