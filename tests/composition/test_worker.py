"""A worker on a real queue: what it makes is what a blend makes, and whatever happens, a job ends once."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from composition import worker as room
from composition.jobs import blend
from composition.worker import Worker
from registry.bootstrap import open_registry
from registry.domain.errors import AdapterNotFound
from registry.domain.expression import parse
from registry.domain.jobs import CompositionOrder, Job, JobKind, JobState
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter

INTO = AdapterName("demo", "blend")
SUM = "0.7*demo/a + 0.3*demo/b"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = open_registry({"ADAPTERS_HOME": str(tmp_path / "home")})
    registry.add_base(TOY, toy_base())
    for seed, name in enumerate("ab"):
        folder = write_adapter(tmp_path / name, seed=seed, rank=2 + seed)
        registry.push_folder(folder, Submission(AdapterName("demo", name), ()))
    yield registry
    registry.close()


def ask(registry: Registry, text: str = SUM, **choices: object) -> Job:
    job = registry.submit(CompositionOrder(INTO, parse(text), **choices)).job  # type: ignore[arg-type]
    assert job is not None
    return job


def drain(registry: Registry, stopping: threading.Event | None = None) -> None:
    Worker(registry, "test", stopping or threading.Event(), "cpu").run(drain=True)


def someone(registry: Registry) -> Registry:
    secret = registry.create_token("test", principal="ann").secret
    registry.set_role("demo", "ann", Role.WRITER)
    return registry.on_behalf_of(registry.authenticate(secret))


def test_a_job_publishes_what_a_blend_publishes(registry: Registry) -> None:
    here = blend(registry, parse(SUM), AdapterName("demo", "here"), device="cpu")
    ann = someone(registry)
    job = ask(ann, aliases=())
    drain(registry)
    done = registry.job(job.id)
    assert (done.state, done.version, done.created) == (JobState.DONE, 1, True)
    made = registry.find_version(Reference.parse("demo/blend"))
    assert here.version is not None and made.digest == here.version.digest
    assert made.author == "ann" and made.message == f"Blend {SUM}"
    line = registry.lineage(made).provenance[0]
    assert line.recipe_digest == here.recipe.digest
    assert [str(parent.adapter) for parent in line.parents] == [str(p.adapter) for p in here.recipe.inputs]
    result = registry.job_result(job.id)
    assert here.report is not None and result["report"] == here.report.document()
    assert result["recipe"] == here.recipe.document()
    assert registry.submit(CompositionOrder(INTO, parse(SUM))).version == made


def test_what_the_recipe_gave_meanwhile_is_the_answer(registry: Registry) -> None:
    first, second = ask(registry), ask(registry, message="the same, said otherwise", aliases=("live",))
    drain(registry)
    assert [registry.job(job.id).version for job in (first, second)] == [1, 1]
    assert registry.job(second.id).created is None
    assert registry.job_result(second.id)["report"] is None
    assert registry.find_version(Reference.parse("demo/blend@live")).number == 1
    assert [e.kind for e in registry.watch(0).events].count("commit.added") == 3


def test_a_dry_run_keeps_its_report_and_nothing_else(registry: Registry) -> None:
    job = ask(registry, f"truncate({SUM}, rank=1)", dry_run=True)
    drain(registry)
    result = registry.job_result(job.id)
    assert result["report"]["total"]["rank"] == 1 and result["version"] is None
    with pytest.raises(AdapterNotFound):
        registry.adapter(INTO)


def test_a_verification_says_what_verify_says(registry: Registry) -> None:
    blob = registry.find_version(Reference.parse("demo/a")).files[-1]
    job = registry.submit_verification(deep=True)
    drain(registry)
    healthy = registry.job_result(job.id)
    assert (healthy["damage"], healthy["blobs"]) == ([], len(list(registry.blobs.list())))
    registry.blobs.delete(blob.sha256)
    job = registry.submit_verification(Reference.parse("demo/a"))
    drain(registry)
    (damage,) = registry.job_result(job.id)["damage"]
    assert (damage["sha256"], damage["versions"]) == (blob.sha256, ["demo/a@v1"])


def test_a_failed_job_says_why_in_the_blends_own_words(registry: Registry) -> None:
    job = ask(registry)
    registry.blobs.delete(registry.find_version(Reference.parse("demo/a")).files[-1].sha256)
    drain(registry)
    failed = registry.job(job.id)
    assert failed.state is JobState.FAILED and failed.error is not None
    assert failed.error["error"] == "blob_not_found" and "adapters verify" in failed.error["hint"]


def test_a_token_that_is_revoked_ends_what_it_asked_for(registry: Registry) -> None:
    ann = someone(registry)
    job = ask(ann)
    registry.revoke_token(ann.caller.token or 0)
    drain(registry)
    failed = registry.job(job.id)
    assert failed.error is not None and failed.error["error"] == "not_authenticated"


def at_progress(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object], done: int = 1) -> None:
    """Let something happen when a composition has so many modules, and the beat after it."""
    before = room.Pulse.progress

    def progress(self: room.Pulse, what: str, number: int, of: int) -> None:
        if what == "composing" and number == done:
            act()
            self._ask(lambda: self._registry.check_claim(self._claim))
        before(self, what, number, of)

    monkeypatch.setattr(room.Pulse, "progress", progress)


def test_a_job_that_is_cancelled_stops_at_its_next_module(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ask(registry)
    at_progress(monkeypatch, lambda: registry.cancel_job(job.id))
    drain(registry)
    assert registry.job(job.id).state is JobState.CANCELLED
    with pytest.raises(AdapterNotFound):
        registry.adapter(INTO)


def test_a_worker_that_is_to_stop_gives_its_job_back(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    job, stopping = ask(registry), threading.Event()
    at_progress(monkeypatch, stopping.set)
    drain(registry, stopping)
    waiting = registry.job(job.id)
    assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
    monkeypatch.undo()
    drain(registry)
    assert registry.job(job.id).state is JobState.DONE


def test_without_torch_only_verifications_and_collections_are_done(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "find_spec", lambda _name: None)
    job, check = ask(registry), registry.submit_verification()
    drain(registry)
    assert registry.job(job.id).state is JobState.QUEUED
    assert registry.job(check.id).state is JobState.DONE
    assert room.kinds_here() == (JobKind.VERIFY, JobKind.COLLECT)
