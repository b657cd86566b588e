"""/metrics: what waits and what is under way, asked seldom, and the same from every worker."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from registry.domain.errors import DatabaseFailure
from registry.domain.figures import Figures
from registry.http.backlog import KEPT, Backlog
from registry.http.metrics import Metrics

NOTHING = Figures({"queued": 0}, {"done": 0.0}, 0.0, {"active": 0}, 0, 0, 0, 0)


def told(metrics: Metrics) -> dict[str, float]:
    """Each figure without labels, or with `name{state}`."""
    found = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            state = sample.labels.get("state")
            found[f"{sample.name}{{{state}}}" if state else sample.name] = sample.value
    return found


def test_the_database_is_asked_once_in_a_while_however_often_one_looks() -> None:
    now, asked = 0.0, 0

    def ask() -> Figures:
        nonlocal asked
        asked += 1
        return replace(NOTHING, jobs={"queued": asked})

    metrics = Metrics()
    metrics.add(Backlog(ask, clock=lambda: now))
    assert asked == 0
    assert [told(metrics)["adapters_jobs{queued}"] for _ in range(3)] == [1, 1, 1]
    now = KEPT
    assert told(metrics)["adapters_jobs{queued}"] == asked == 2


def test_old_figures_are_not_told_while_the_database_is_away() -> None:
    moments, answers = (
        iter([0.0, 0.0, KEPT, KEPT, 2 * KEPT, 2 * KEPT]),
        iter([NOTHING, DatabaseFailure("away"), NOTHING]),
    )

    def ask() -> Figures:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    metrics = Metrics()
    metrics.count("GET", "/", 200, seconds=0.1)
    metrics.add(Backlog(ask, clock=lambda: next(moments)))
    present = []
    for _ in range(3):
        found = told(metrics)
        assert found["adapters_http_requests_total"] == 1
        present.append("adapters_uploads_open" in found)
    assert present == [True, False, True]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    yield str(tmp_path)


def test_workers_add_up_requests_and_not_what_the_registry_has(folder: str) -> None:
    workers = [Metrics(folder), Metrics(folder)]
    for worker in workers:
        worker.add(Backlog(lambda: replace(NOTHING, uploads=3)))
    assert [told(worker)["adapters_uploads_open"] for worker in workers] == [3, 3]
