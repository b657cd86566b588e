"""Jobs on a server: the methods of `registry.service.jobs`; and those that wait for one and take what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from cli.output import Progress
from cli.remote.lookups import Lookups
from cli.remote.rooms import part
from cli.report import Report
from cli.waiting import check_done, wait_for
from registry.domain import from_documents as records
from registry.domain.job_documents import submitted_document
from registry.domain.jobs import CompositionOrder, Job, JobKind, JobProgress, JobState, Submitted
from registry.domain.recipe import Recipe
from registry.domain.records import Page, Version
from registry.domain.reference import AdapterName, Reference

if TYPE_CHECKING:
    from registry.service.integrity import Verification

T = TypeVar("T")
_ACCEPTED = 202


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


class Jobs(Lookups):
    """Submit, show, list, cancel; compose and verify."""

    def submit(self, order: CompositionOrder) -> Submitted:
        """Ask for a composition: the version that the recipe has given already, or the job that will make one."""
        wanted = {key: value for key, value in order.document().items() if key != "asked"}
        answer = self.connection.request("POST", "/v1/compositions", json=wanted)
        if answer.status == _ACCEPTED:
            return self._read(lambda found: Submitted(order, job=_job(found["job"])), answer.document)
        return self._read(lambda found: _known(order, found), answer.document)

    def submit_verification(self, reference: Reference | None = None, *, deep: bool = False) -> Job:
        """Ask for a check of stored bytes: of one version, or (an operator) of all."""
        wanted = {"ref": str(reference) if reference else None, "deep": deep}
        return self._accepted(self.connection.request("POST", "/v1/verifications", json=wanted).document)

    def job(self, job_id: str) -> Job:
        """A job."""
        return self._read(_job, self.connection.get(_path(job_id)))

    def jobs(
        self, *, team: str | None = None, state: JobState | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[Job]:
        """The jobs of the teams that the caller may write to, newest first."""
        wanted = {"team": team, "state": state, "cursor": cursor, "limit": limit}
        return self._read(lambda found: records.page(found, "jobs", _job), self.connection.get("/v1/jobs", wanted))

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job."""
        return self._read(_job, self.connection.request("DELETE", _path(job_id)).document)

    def compose(self, order: CompositionOrder, *, progress: Progress = silent) -> dict[str, Any]:
        """Compose and publish on the server; returns the document of what came of it. Raises what the job met."""
        submitted = self.submit(order)
        if submitted.job is None:
            return submitted_document(submitted)
        return self._result(submitted.job, _checked_composition, progress)

    def verify(
        self, version: Version | None = None, *, deep: bool = False, progress: Progress = silent
    ) -> "Verification":
        """Let the server look at every blob (of one version, or of all)."""
        reference = Reference.parse(version.reference) if version else None
        return self._result(self.submit_verification(reference, deep=deep), _verification, progress)

    def _accepted(self, document: Any) -> Job:
        return self._read(lambda found: _job(found["job"]), document)

    def _result(self, job: Job, read: Callable[[Any], T], progress: Progress) -> T:
        job = wait_for(job, lambda: self.job(job.id), progress)
        check_done(job)
        return self._read(read, self.connection.get(f"{_path(job.id)}/result"))


def _path(job_id: str) -> str:
    return f"/v1/jobs/{part(job_id)}"


def _known(order: CompositionOrder, document: Mapping[str, Any]) -> Submitted:
    recipe = Recipe.from_document(document["recipe"])
    return Submitted(replace(order, recipe=recipe), version=records.version(document["version"]))


def _job(document: Mapping[str, Any]) -> Job:
    progress, name = document["progress"], document["name"]
    return Job(
        id=str(document["id"]),
        kind=JobKind(document["kind"]),
        state=JobState(document["state"]),
        requester=str(document["requester"]),
        target=AdapterName.parse(name) if name else None,
        title=str(document["title"]),
        order={},
        created_at=datetime.fromisoformat(document["created_at"]),
        progress=JobProgress(str(progress["what"]), int(progress["done"]), int(progress["of"])),
        cancelling=bool(document["cancelling"]),
        version=None if document["version"] is None else int(document["version"]),
        error=None if document["error"] is None else dict(document["error"]),
        attempts=int(document["attempts"]),
        started_at=_time(document["started_at"]),
        ended_at=_time(document["ended_at"]),
    )


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _checked_composition(document: Mapping[str, Any]) -> dict[str, Any]:
    """What came of a composition, once everything in it that is printed has been read."""
    if document["version"] is not None:
        records.version(document["version"])
    if document["report"] is not None:
        Report.of(document["report"])
    Recipe.from_document(document["recipe"])
    texts = {key: str(document[key]) for key in ("expression", "recipe_digest")}
    return {**document, **texts, "created": bool(document["created"]), "dry_run": bool(document["dry_run"])}


def _verification(document: Mapping[str, Any]) -> "Verification":
    from registry.service.integrity import Damage, Verification  # lazy: start-up time

    damage = tuple(
        Damage(
            str(found["sha256"]),
            int(found["size"]),
            str(found["problem"]),
            tuple(map(str, found["versions"])),
            tuple(map(str, found["aliases"])),
        )
        for found in document["damage"]
    )
    return Verification(int(document["blobs"]), int(document["bytes"]), bool(document["deep"]), damage)
