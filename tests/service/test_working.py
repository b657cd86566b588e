"""What workers do with jobs, without anybody who computes: claims, leases, and ends."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    ClaimLost,
    JobCancelled,
    JobEnded,
    NotAllowed,
    NotAuthenticated,
)
from registry.domain.jobs import JobKind, JobProgress, JobState
from registry.domain.rights import Role, Scope
from registry.service import Registry
from registry.service.publishing import Submission
from registry.service.working import LEASE, MOST_ATTEMPTS, Claimed
from tests.factories import write_adapter
from tests.service.jobs import INTO, Clock, asked, claimed, member, once


def publish(registry: Registry, mine: Claimed, folder: Path, seed: int = 7) -> None:
    """What a worker does at the end, with an adapter of ours as if it had been composed."""
    theirs = registry.on_behalf_of(mine.caller or registry.caller)
    theirs.push_folder(write_adapter(folder, seed=seed), Submission(INTO, (), claim=mine.claim))


def test_a_job_is_given_to_one_worker_and_shows_how_far_it_is(ours: Registry) -> None:
    jobs = {asked(ours, f"{weight}*ours/a + ours/b").id for weight in range(2, 8)}
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda n: ours.claim_job(tuple(JobKind), slot=str(n)), range(12)))
    given = [one.job.id for one in found if one]
    assert len(given) == len(set(given)) and set(given) <= jobs
    mine = next(one for one in found if one)
    ours.beat(mine.claim, JobProgress("composing", 3, 12))
    shown = ours.job(mine.job.id)
    assert (shown.state, shown.progress) == (JobState.RUNNING, JobProgress("composing", 3, 12))


def test_a_dead_workers_job_is_done_again_and_the_one_who_comes_back_does_no_harm(
    ours: Registry, clock: Clock, tmp_path: Path
) -> None:
    job = asked(ours)
    frozen = claimed(ours)
    assert ours.claim_job(tuple(JobKind), slot="two") is None
    clock.now += LEASE
    alive = claimed(ours, "two")
    assert (alive.job.id, alive.job.attempts) == (job.id, 2)
    with pytest.raises(ClaimLost):
        ours.beat(frozen.claim, JobProgress())
    with pytest.raises(ClaimLost):
        publish(ours, frozen, tmp_path / "frozen")
    with pytest.raises(AdapterNotFound):
        ours.adapter(INTO)
    ours.end_job(frozen.job, frozen.claim, JobState.FAILED, error={"error": "x", "message": "x"})
    publish(ours, alive, tmp_path / "alive")
    done = ours.job(job.id)
    assert (done.state, done.version, done.created) == (JobState.DONE, 1, True)
    assert [e.kind for e in ours.watch(0).events][-2:] == ["commit.added", "job.ended"]
    with pytest.raises(JobEnded):
        ours.cancel_job(job.id)


@once
def test_a_workers_successor_takes_up_its_job_at_once(ours: Registry) -> None:
    asked(ours)
    claimed(ours, "slot")
    ours.recover_slot("another")
    assert ours.claim_job(tuple(JobKind), slot="another") is None
    ours.recover_slot("slot")
    assert claimed(ours, "slot").job.attempts == 2


@once
def test_a_job_that_kills_its_workers_fails_in_plain_words(ours: Registry, clock: Clock) -> None:
    job = asked(ours)
    for _ in range(MOST_ATTEMPTS):
        claimed(ours)
        clock.now += LEASE
    assert ours.claim_job(tuple(JobKind), slot="one") is None
    failed = ours.job(job.id)
    assert failed.state is JobState.FAILED and failed.error is not None
    assert failed.error["error"] == "worker_lost"


@once
def test_a_cancelled_job_publishes_nothing(ours: Registry, clock: Clock, tmp_path: Path) -> None:
    job = asked(ours)
    mine = claimed(ours)
    assert ours.cancel_job(job.id).cancelling
    for act in (lambda: ours.check_claim(mine.claim), lambda: ours.beat(mine.claim, JobProgress())):
        with pytest.raises(JobCancelled):
            act()
    with pytest.raises(ClaimLost):
        publish(ours, mine, tmp_path / "late")
    with pytest.raises(AdapterNotFound):
        ours.adapter(INTO)
    ours.end_job(mine.job, mine.claim, JobState.DONE, result={"a": 1})  # too late for that, too
    assert ours.job(job.id).state is JobState.CANCELLED


@once
def test_a_job_that_is_given_back_waits_without_having_been_tried(ours: Registry, clock: Clock) -> None:
    asked(ours)
    ours.release_job(claimed(ours).claim)
    again = claimed(ours)
    assert again.job.attempts == 1
    ours.release_job(again.claim, retry_in=timedelta(seconds=5))
    assert ours.claim_job(tuple(JobKind), slot="one") is None
    clock.now += timedelta(seconds=5)
    assert claimed(ours).job.attempts == 2


@once
@pytest.mark.parametrize("loss", ["role", "input", "token"])
def test_rights_that_are_gone_at_the_end_are_missed(ours: Registry, tmp_path: Path, loss: str) -> None:
    ann = member(ours, "ann", ours=Role.WRITER, theirs=Role.READER)
    asked(ann, "ours/a + theirs/c")
    mine = claimed(ours)
    if loss == "token":
        ours.revoke_token(ann.caller.token or 0)
    else:
        ours.set_role("ours" if loss == "role" else "theirs", "ann", Role.READER if loss == "role" else None)
    error = {"role": NotAllowed, "input": AdapterNotFound, "token": NotAuthenticated}[loss]
    with pytest.raises(error):
        publish(ours, mine, tmp_path / "late")
    with pytest.raises(AdapterNotFound):
        ours.adapter(INTO)


def test_ended_jobs_are_forgotten_after_a_month(ours: Registry, clock: Clock) -> None:
    old = asked(ours)
    ours.cancel_job(old.id)
    clock.now += timedelta(days=31)
    new = asked(ours)
    assert [job.id for job in ours.jobs().items] == [new.id]


def test_jobs_come_newest_first_a_page_at_a_time(ours: Registry, clock: Clock) -> None:
    ids = []
    for weight in range(2, 7):
        ids.append(asked(ours, f"{weight}*ours/a").id)
        clock.now += timedelta(seconds=1)
    first = ours.jobs(limit=3)
    rest = ours.jobs(limit=3, cursor=first.cursor)
    assert [job.id for job in (*first.items, *rest.items)] == ids[::-1]
    assert rest.cursor is None
    assert ours.jobs(state=JobState.RUNNING).items == ()


@once
def test_only_who_runs_the_registry_may_work(ours: Registry) -> None:
    with pytest.raises(NotAllowed):
        member(ours, "ann", ours=Role.OWNER).claim_job(tuple(JobKind), slot="one")
    assert Scope.ADMIN in ours.caller.scopes
