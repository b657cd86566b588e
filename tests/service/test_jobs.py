"""Asking for jobs, and who sees what of them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    BaseConflict,
    InvalidRecipe,
    JobNotFound,
    JobUnfinished,
    NotAllowed,
    TeamNotFound,
    TooManyJobs,
    UnsupportedAdapter,
)
from registry.domain.jobs import CompositionOrder, JobKind, JobState
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from tests.factories import toy_base
from tests.service.jobs import INTO, Clock, asked, claimed, member, once, order, push

# -- asking -----------------------------------------------------------------------------------------------------------


def test_the_same_asked_for_by_many_at_once_is_one_job(ours: Registry, clock: Clock) -> None:
    ann = member(ours, "ann", ours=Role.WRITER)
    with ThreadPoolExecutor(20) as threads:
        jobs = list(threads.map(lambda _: asked(ann), range(20)))
    assert len({job.id for job in jobs}) == 1
    assert [job.id for job in ann.jobs().items] == [jobs[0].id]
    assert [e.kind for e in ours.watch(0).events if e.kind.startswith("job.")] == ["job.submitted"]
    clock.now += timedelta(seconds=1)
    other = asked(ann, "0.5*ours/b + 0.5*ours/a", message="another wish")
    assert other.id != jobs[0].id
    assert claimed(ours).job.id == jobs[0].id
    assert ours.claim_job(tuple(JobKind), slot="two") is None  # the same recipe into the same target is under way


@once
def test_an_ended_job_is_asked_for_anew(ours: Registry) -> None:
    first = asked(ours)
    ours.cancel_job(first.id)
    assert asked(ours).id != first.id


@once
def test_what_makes_no_sense_is_refused_when_it_is_asked_for(ours: Registry, tmp_path: Path) -> None:
    ours.add_base("toys/toy-2", toy_base("two"))
    push(ours, tmp_path / "other", "ours/other", 9, base_model_name_or_path="toys/toy-2")
    refused = {
        "ours/a + ours/none": AdapterNotFound,
        "ours/a + ours/other": BaseConflict,
        "ours/a - ours/a": UnsupportedAdapter,
    }
    for text, error in refused.items():
        with pytest.raises(error):
            ours.submit(order(text))
    pinned = ours.submit(order()).order.recipe
    changed = replace(pinned, inputs=tuple(replace(parent, digest="0" * 64) for parent in pinned.inputs))
    with pytest.raises(InvalidRecipe):
        ours.submit(CompositionOrder(INTO, changed))
    assert len(ours.jobs().items) == 1


@once
def test_asking_takes_the_right_to_read_the_inputs_and_to_write_and_promote(ours: Registry) -> None:
    writer, reader = member(ours, "ann", ours=Role.WRITER), member(ours, "bob", ours=Role.READER)
    with pytest.raises(NotAllowed):
        reader.submit(order())
    with pytest.raises(NotAllowed):
        writer.submit(order(aliases=("production",)))
    with pytest.raises(AdapterNotFound):
        writer.submit(order("ours/a + theirs/c"))
    with pytest.raises(TeamNotFound):
        writer.submit(order(into=AdapterName("theirs", "x")))
    with pytest.raises(NotAllowed):
        writer.submit_verification()
    assert writer.submit_verification(Reference.parse("ours/a")).title == "verify ours/a@v1"


# -- who sees what ----------------------------------------------------------------------------------------------------


def test_a_job_of_another_team_looks_absent(ours: Registry) -> None:
    job = asked(member(ours, "ann", ours=Role.WRITER))
    stranger = member(ours, "eve", theirs=Role.OWNER)
    for look in (stranger.job, stranger.cancel_job, stranger.job_result):
        with pytest.raises(JobNotFound):
            look(job.id)
    assert stranger.jobs().items == ()
    assert stranger.jobs(team="ours").items == ()


@once
def test_who_may_not_read_an_input_isnt_told_of_it(ours: Registry) -> None:
    job = asked(member(ours, "ann", ours=Role.WRITER, theirs=Role.READER), "ours/a + theirs/c")
    mate = member(ours, "bob", ours=Role.WRITER)
    mine = claimed(ours)
    ours.end_job(mine.job, mine.claim, JobState.FAILED, error={"error": "gone", "message": "theirs/c@v1 is revoked"})
    for shown in (mate.job(job.id), mate.jobs().items[0]):
        assert "theirs" not in repr(shown)
        assert shown.error is not None and shown.error["error"] == "gone"
    assert "theirs/c" in ours.job(job.id).title


@once
def test_ones_own_jobs_are_cancelled_and_others_by_admins_only(ours: Registry) -> None:
    ann, bob = member(ours, "ann", ours=Role.WRITER), member(ours, "bob", ours=Role.WRITER)
    job = asked(ann)
    with pytest.raises(NotAllowed):
        bob.cancel_job(job.id)
    assert ann.cancel_job(job.id).state is JobState.CANCELLED
    assert member(ours, "eve", ours=Role.OWNER).cancel_job(job.id).state is JobState.CANCELLED
    assert ours.claim_job(tuple(JobKind), slot="one") is None
    with pytest.raises(JobUnfinished):
        ann.job_result(job.id)


@once
def test_a_team_has_only_so_many_jobs_waiting(ours: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("registry.service.jobs.MOST_LIVE", 2)
    for weight in (2, 3):
        asked(ours, f"{weight}*ours/a")
    with pytest.raises(TooManyJobs):
        asked(ours, "4*ours/a")
    assert len(ours.jobs().items) == 2
    asked(ours, "4*theirs/c", into=AdapterName("theirs", "x"))
