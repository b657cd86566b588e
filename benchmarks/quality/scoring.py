"""Which held-out examples a merge gets right, one by one, so that two merges can be compared pair by pair.

The change is added to the base's weights, which are put back afterwards; texts are tokenised once. Hits are kept on
disk by the digest of the deltas: what was scored once, is never again, and another number is another digest.
"""

import json
import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from benchmarks.quality.arms import Arm
from benchmarks.quality.paired import Outcome
from benchmarks.quality.workbench import Deltas, Workbench
from examples.score import Scorer

CACHE = Path("build/quality")
LIMITS = {"dev": 200, "test": 400}  # examples of a task
PRECISIONS = {"dev": "bfloat16", "test": "float32"}  # what is reported isn't blurred; what only chooses may be


@dataclass(frozen=True)
class Job:
    arm: Arm
    tasks: tuple[str, ...]
    split: str


class Judge:
    """Merges, in float32, and scores. One thread: several judges work side by side, one a core."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self._scorers: dict[str, Scorer] = {}
        self._workbench: Workbench | None = None

    def outcome(self, job: Job) -> Outcome:
        scorer = self._scorer(job.split)
        if self._workbench is None:
            self._workbench = Workbench(scorer)
        merged = self._workbench.merge(job.arm)
        place = CACHE / f"{_digest(merged.deltas)}-{job.split}-{PRECISIONS[job.split]}.json"
        known = json.loads(place.read_text()) if place.exists() else {}
        if missing := [task for task in job.tasks if task not in known]:
            known |= _hits(scorer, merged.deltas, missing, precision=PRECISIONS[job.split])
            fresh = place.with_suffix(f".{multiprocessing.current_process().pid}")
            fresh.write_text(json.dumps(known))
            fresh.replace(place)
        return Outcome({task: tuple(map(int, known[task])) for task in job.tasks}, merged.kept)

    def _scorer(self, split: str) -> Scorer:
        if split not in self._scorers:
            self._scorers[split] = Scorer([], split, LIMITS[split])
        return self._scorers[split]


def _hits(scorer: Scorer, deltas: Deltas, names: Sequence[str], *, precision: str) -> dict[str, str]:
    tasks = {name: scorer.task(name) for name in names}  # their heads are the base's, in float32
    lower = torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with _changed(scorer.base, deltas) as model, lower:
        return {name: "".join(map(str, scorer.hits(model, task).int().tolist())) for name, task in tasks.items()}


@contextmanager
def _changed(model: torch.nn.Module, deltas: Deltas) -> Iterator[torch.nn.Module]:
    weights = {name: model.get_parameter(f"{name}.weight") for name in deltas}
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        for name, weight in weights.items():
            weight.data += deltas[name]
        yield model
    finally:
        for name, weight in weights.items():
            weight.data.copy_(before[name])


def _digest(deltas: Deltas) -> str:
    found = sha256()
    for name in sorted(deltas):
        found.update(name.encode() + b"\0" + deltas[name].contiguous().numpy().tobytes())
    return found.hexdigest()


# -- side by side -----------------------------------------------------------------------------------------------------

_judge: Judge | None = None


def _begin() -> None:
    global _judge
    _judge = Judge()


def _work(job: Job) -> Outcome:
    assert _judge is not None
    return _judge.outcome(job)


class Pool:
    """Judges in processes of their own."""

    def __init__(self, workers: int) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        self._pool = multiprocessing.get_context("spawn").Pool(workers, _begin)

    def close(self) -> None:
        self._pool.terminate()

    def score(self, arms: Sequence[Arm], tasks: Sequence[str], split: str) -> dict[Arm, Outcome]:
        """Each arm once, however often it is asked for."""
        jobs = [Job(arm, tuple(tasks), split) for arm in dict.fromkeys(arms)]
        found: dict[Arm, Outcome] = {}
        for job, outcome in zip(jobs, self._pool.imap(_work, jobs), strict=True):
            found[job.arm] = outcome
            scores = " ".join(f"{task} {outcome.accuracy(task):.4f}" for task in tasks)
            print(f"  {split:4s} {job.arm!s:80s} {scores}", file=sys.stderr, flush=True)
        return found
