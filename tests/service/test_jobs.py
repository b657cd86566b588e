"""Jobs without anybody who computes: asking, who sees what, claims, leases, and ends."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    BaseConflict,
    ClaimLost,
    InvalidRecipe,
    JobCancelled,
    JobEnded,
    JobNotFound,
    JobUnfinished,
    NotAllowed,
    NotAuthenticated,
    TeamNotFound,
    UnsupportedAdapter,
)
from registry.domain.expression import parse
from registry.domain.jobs import CompositionOrder, Job, JobKind, JobProgress, JobState
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role, Scope
from registry.service import Registry
from registry.service.access import caller_now
from registry.service.publishing import Submission
from registry.service.working import LEASE, MOST_ATTEMPTS, Claimed
from tests.factories import toy_base, write_adapter

INTO = AdapterName("ours", "blend")
SUM = "0.5*ours/a + 0.5*ours/b"
AGES = timedelta(days=1)
# Rules above the database, which needn't be asked of both.
once = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock(registry: Registry) -> Clock:
    registry.clock = clock = Clock()
    return clock


@pytest.fixture
def ours(registry: Registry, clock: Clock, tmp_path: Path) -> Registry:
    """A registry with two adapters of a team, and one of another's."""
    for seed, name in enumerate(("ours/a", "ours/b", "theirs/c")):
        push(registry, tmp_path / name, name, seed)
    return registry


def push(registry: Registry, folder: Path, name: str, seed: int, **config: object) -> None:
    registry.push_folder(write_adapter(folder, seed=seed, **config), Submission(AdapterName.parse(name), ()))


def member(registry: Registry, name: str, **roles: Role) -> Registry:
    """The registry for somebody with a token, and these roles in teams."""
    token = registry.create_token("test", principal=name).token
    for team, role in roles.items():
        registry.set_role(team, name, role)
    with registry.database.reading() as catalog:
        return registry.on_behalf_of(caller_now(catalog, token.id, registry.clock()))


def order(text: str = SUM, **choices: object) -> CompositionOrder:
    return replace(CompositionOrder(INTO, parse(text)), **choices)  # type: ignore[arg-type]


def asked(registry: Registry, text: str = SUM, **choices: object) -> Job:
    job = registry.submit(order(text, **choices)).job
    assert job is not None
    return job


def claimed(registry: Registry, slot: str = "one") -> Claimed:
    found = registry.claim_job(tuple(JobKind), slot=slot)
    assert found is not None
    return found


def publish(registry: Registry, mine: Claimed, folder: Path, seed: int = 7) -> None:
    """What a worker does at the end, with an adapter of ours as if it had been composed."""
    theirs = registry.on_behalf_of(mine.caller or registry.caller)
    theirs.push_folder(write_adapter(folder, seed=seed), Submission(INTO, (), claim=mine.claim))


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


# -- working ----------------------------------------------------------------------------------------------------------


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
    clock.now += 31 * AGES
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
