"""Paired comparison: what two merges get right on the same examples."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """Of one arm: {task: hits}, each hit 0 or 1; and the share of the merge's energy that its rank holds."""

    hits: Mapping[str, tuple[int, ...]]
    kept: float | None

    def accuracy(self, task: str) -> float:
        return sum(self.hits[task]) / len(self.hits[task])

    @property
    def mean(self) -> float:
        """The mean of the tasks' accuracies."""
        return sum(map(self.accuracy, self.hits)) / len(self.hits)


@dataclass(frozen=True)
class Difference:
    """Of two mean accuracies, with its standard error over the examples."""

    value: float
    error: float

    @property
    def is_worse(self) -> bool:
        """By more than one standard error."""
        return self.value < -self.error - 1e-12


def difference(ours: Sequence[Outcome], theirs: Sequence[Outcome]) -> Difference:
    """Mean over the tasks of ours minus theirs, each the mean of its runs with different seeds.

    The standard error is that of the mean of paired differences, example by example; tasks are independent. What the
    seeds add to it is left out, so that it is rather too small.
    """
    tasks = [_task(_shares(ours, task), _shares(theirs, task)) for task in ours[0].hits]
    errors = math.sqrt(math.fsum(error**2 for _, error in tasks))
    return Difference(statistics.fmean(value for value, _ in tasks), errors / len(tasks))


def accuracies(runs: Sequence[Outcome]) -> Mapping[str, float]:
    """{task: the mean of the runs' accuracies}."""
    return {task: statistics.fmean(run.accuracy(task) for run in runs) for task in runs[0].hits}


def _shares(runs: Sequence[Outcome], task: str) -> list[float]:
    """Of each example, the share of the runs that get it right."""
    return [statistics.fmean(hits) for hits in zip(*(run.hits[task] for run in runs), strict=True)]


def _task(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    paired = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    return statistics.fmean(paired), statistics.stdev(paired) / math.sqrt(len(paired))
