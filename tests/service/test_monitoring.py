"""Figures for whoever watches a registry."""

from datetime import timedelta

import pytest

from registry.domain.errors import NotAllowed
from registry.domain.jobs import JobState
from registry.domain.rights import Role
from registry.service import Registry
from tests.service.jobs import Clock, asked, claimed, member


def test_the_figures_tell_what_waits_and_how_long_work_took(ours: Registry, clock: Clock) -> None:
    before = ours.figures()
    assert (sum(before.jobs.values()), before.oldest_queued, before.uploads, before.behind) == (0, 0, 0, 0)
    for text in ("0.5*ours/a + 0.5*ours/b", "0.4*ours/a + 0.6*ours/b", "0.3*ours/a + 0.7*ours/b"):
        asked(ours, text)
    clock.now += timedelta(seconds=10)
    for seconds, state in ((30, JobState.DONE), (50, JobState.FAILED)):
        mine = claimed(ours)
        clock.now += timedelta(seconds=seconds)
        ours.end_job(mine.job, mine.claim, state)
    ours.begin_upload("ours", "0" * 64, 5)
    ours.begin_upload("theirs", "1" * 64, 7)
    ours.create_webhook("ours", "https://8.8.8.8/hook")
    ours.begin_upload("ours", "2" * 64, 0 + 1)
    found = ours.figures()
    assert found.jobs == {"queued": 1, "running": 0, "done": 1, "failed": 1, "cancelled": 0}
    assert found.job_seconds == {"done": 30.0, "failed": 50.0}
    assert found.oldest_queued == 90.0
    assert (found.uploads, found.upload_bytes) == (3, 13)
    assert found.webhooks == {"active": 1, "failing": 0}
    assert found.deliveries == 0
    ours.set_visibility("theirs", public=True)
    assert ours.figures().behind >= 1


def test_only_operators_read_the_figures(ours: Registry) -> None:
    with pytest.raises(NotAllowed):
        member(ours, "ann", ours=Role.OWNER).figures()
