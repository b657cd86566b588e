"""Jobs: asking for a composition or a verification, looking how far it is, cancelling it, and what came of it.

What makes no sense is refused when it is asked for, with the same words as without a job. Whoever may write to a job's
team sees it; who may not read all that it reads isn't told what that is.
"""

import secrets
from dataclasses import replace
from datetime import timedelta
from typing import Any

from registry.domain.digest import json_digest
from registry.domain.errors import (
    AdaptersError,
    JobEnded,
    JobNotFound,
    JobUnfinished,
    NotAllowed,
    TooManyJobs,
)
from registry.domain.job_documents import composition_document
from registry.domain.jobs import (
    CollectionOrder,
    CompositionOrder,
    Job,
    JobKind,
    JobState,
    Submitted,
    VerificationOrder,
)
from registry.domain.records import Page, Parent, Version
from registry.domain.reference import AdapterName, Reference, Selector, check_alias
from registry.domain.rights import Scope
from registry.domain.texts import check_metadata, check_text
from registry.service.aliases import Aliases
from registry.service.collecting import GRACE, check_grace
from registry.service.lookup import Lookup, look
from registry.service.transfers import Transfers
from registry.sql.catalog import Catalog

COMPOSITION = "composition.json"  # the file of a composed version that holds its report
KEPT = timedelta(days=30)  # how long ended jobs are known
MOST_LIVE = 1000  # jobs of a team that wait or run
_TITLE = 300  # characters
_LARGEST = 64 << 20  # bytes of a report
_HIDDEN = {"message": "it failed; whoever may read its inputs can see why", "hint": "", "detail": {}}


class Jobs(Transfers, Lookup, Aliases):
    """Submit, show, list, cancel."""

    def submit(self, order: CompositionOrder) -> Submitted:
        """Ask for a composition: its references are pinned now, its inputs read and its result published later.

        What the recipe gave before is found at once, and aliases moved there. The same asked for again by the same
        caller while it waits or runs is the same job. Raises what `blend` raises before it reads an input, and
        TooManyJobs.
        """
        from registry.domain.common_base import check_same_base, with_base  # lazy: start-up time
        from registry.domain.expression import format  # lazy: start-up time

        self._check_order(order)
        versions: dict[Parent, Version] = {}

        def resolve(reference: Reference) -> Parent:
            version = self.find_version(reference)
            parent = Parent(version.adapter, version.number, version.digest)
            versions[parent] = version
            return parent

        pinned = order.recipe.pin(resolve)
        inputs = [versions[parent] for parent in pinned.inputs]
        check_same_base(inputs)
        order = replace(order, asked=order.asked or order.recipe, recipe=with_base(pinned, inputs))
        order.recipe.check_not_zero()
        if not (order.force or order.dry_run) and (known := self.version_of_recipe(order.into, order.recipe.digest)):
            for alias in order.aliases:
                pin = Reference(known.adapter, Selector.VERSION, str(known.number))
                self.promote(pin, alias, reason=order.message or None, across_bases=order.across_bases)
            return Submitted(order, version=known)
        title = format(order.asked or order.recipe)
        job = self._new_job(JobKind.COMPOSE, order.into, f"{title} into {order.into}", order.document())
        return Submitted(order, job=self._queue(job, order.recipe.digest))

    def submit_verification(self, reference: Reference | None = None, *, deep: bool = False) -> Job:
        """Ask for a check of stored bytes: of one version, or (an operator) of all. Raises NotAllowed, TooManyJobs."""
        if reference is None:
            self.require_operator("verify", "every team's blobs")
            name, pin = None, None
        else:
            with self.database.reading() as catalog:
                self.require(catalog, reference.adapter, Scope.WRITE)
                version = look(catalog, reference).version
            name, pin = version.adapter, Reference(version.adapter, Selector.VERSION, str(version.number))
        title = f"verify {pin or 'everything'}{', every byte' if deep else ''}"
        return self._queue(self._new_job(JobKind.VERIFY, name, title, VerificationOrder(pin, deep).document()))

    def submit_collection(self, *, grace: timedelta = GRACE, dry_run: bool = False) -> Job:
        """Ask for a collection. For operators. Raises NotAllowed, WrongUsage, TooManyJobs."""
        self.require_operator("collect", "blobs")
        check_grace(grace)
        title = f"collect{' (dry run)' if dry_run else ''}"
        return self._queue(self._new_job(JobKind.COLLECT, None, title, CollectionOrder(grace, dry_run).document()))

    def job(self, job_id: str) -> Job:
        """A job. Raises JobNotFound."""
        with self.database.reading() as catalog:
            return self._seen(catalog, self._found(catalog, job_id))

    def jobs(
        self, *, team: str | None = None, state: JobState | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[Job]:
        """The jobs of the teams that the caller may write to, newest first."""
        teams = None if self.caller.operates else self.caller.teams_with(Scope.WRITE) or frozenset()
        with self.database.reading() as catalog:
            page = catalog.jobs.list(teams=teams, team=team, state=state, cursor=cursor, limit=limit)
            return replace(page, items=tuple(self._seen(catalog, job) for job in page.items))

    def cancel_job(self, job_id: str) -> Job:
        """Cancel a job, one's own or (an admin) any of the team. One that runs stops at its next module.

        A cancelled one stays so. Raises JobNotFound, NotAllowed, JobEnded.
        """
        with self.database.writing() as catalog:
            job = self._found(catalog, job_id)
            mine = job.requester.lower() == self.actor.lower()
            if not mine and job.target and not self._may(catalog, Scope.ADMIN, job.target.team):
                raise NotAllowed(self.actor, "cancel", f"{job.requester}'s job {job_id}")
            if job.state is JobState.CANCELLED or job.cancelling:
                return self._seen(catalog, job)
            if job.has_ended:
                raise JobEnded(job_id, job.state.value)
            cancelled = catalog.jobs.cancel(job_id, at=self.clock())
            assert cancelled is not None
            payload = {"job": job_id, "state": cancelled.state.value}
            catalog.events.append("job.cancelled", job.target, payload, actor=self.actor)
            return self._seen(catalog, cancelled)

    def job_result(self, job_id: str) -> dict[str, Any]:
        """What came of a job that is done: the document of `blend`, of `verify` or of `gc`.

        Raises JobNotFound, JobUnfinished, and NotAllowed for whoever may not read what it was made of.
        """
        with self.database.reading() as catalog:
            job = self._found(catalog, job_id)
            if job.state is not JobState.DONE:
                raise JobUnfinished(job_id, job.state.value)
            if not self._reads_inputs(catalog, job):
                raise NotAllowed(self.actor, "read", f"what job {job_id} was made of")
            found = catalog.jobs.result(job_id)
            if job.kind is not JobKind.COMPOSE:
                return found or {}
            order = CompositionOrder.from_document(job.order)
            pin = Reference(order.into, Selector.VERSION, str(job.version))
            version = look(catalog, pin).version if job.version else None
        report = found or (self._published_report(order.into, job.commit) if job.commit else None)
        created = bool(job.created)
        return composition_document(order.recipe, version, created=created, dry_run=order.dry_run, report=report)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _check_order(self, order: CompositionOrder) -> None:
        with self.database.reading() as catalog:
            self.require_publishing(catalog, order.into, order.aliases)
        check_text("the message", order.message)
        check_metadata(order.metadata)
        for alias in order.aliases:
            check_alias(alias)

    def _new_job(self, kind: JobKind, target: AdapterName | None, title: str, order: dict[str, Any]) -> Job:
        at = self.clock()
        # Ids sort by time, which makes the queue's order that of the ids.
        job_id = f"{int(at.timestamp() * 1000):012x}{secrets.token_hex(8)}"
        short = title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"
        return Job(job_id, kind, JobState.QUEUED, self.actor, target, short, order, at)

    def _queue(self, job: Job, recipe_digest: str | None = None) -> Job:
        key = json_digest([job.kind.value, self.actor.lower(), self.caller.token, job.order])
        team = job.target.team if job.target else None
        with self.database.writing() as catalog:
            catalog.jobs.forget_before(job.created_at - KEPT)
            queued = catalog.jobs.add(job, key=key, token=self.caller.token, recipe_digest=recipe_digest)
            if queued.id != job.id:
                return queued
            count = catalog.jobs.count_live(team)
            if count > MOST_LIVE:
                raise TooManyJobs(team or "the registry", count - 1)
            payload = {"job": job.id, "kind": job.kind.value}
            catalog.events.append("job.submitted", job.target, payload, actor=self.actor)
        return queued

    def _found(self, catalog: Catalog, job_id: str) -> Job:
        """A job of a team that the caller may write to: of any other it isn't told that it exists."""
        job = catalog.jobs.find(job_id)
        visible = job is not None and (
            self._may(catalog, Scope.WRITE, job.target.team) if job.target else self.caller.operates
        )
        if job is None or not visible:
            raise JobNotFound(job_id[:100])
        return job

    def _seen(self, catalog: Catalog, job: Job) -> Job:
        """A job without what tells of inputs that the caller may not read."""
        if self._reads_inputs(catalog, job):
            return job
        error = {"error": job.error["error"], **_HIDDEN} if job.error else None
        return replace(job, title=f"a composition into {job.target}", order={}, error=error)

    def _reads_inputs(self, catalog: Catalog, job: Job) -> bool:
        teams = {name.team.lower() for name in job.inputs}
        return all(self._may(catalog, Scope.READ, team) for team in teams)

    def _published_report(self, name: AdapterName, commit: str) -> dict[str, Any] | None:
        """The report in the description that a composition was published with; None where the bytes are gone."""
        from registry.formats.json_document import JsonLimits, parse_object  # lazy: start-up time

        with self.database.reading() as catalog:
            version = look(catalog, Reference(name, Selector.COMMIT, commit)).version
        try:
            with self.open_file(version, COMPOSITION) as stream:
                data = stream.read(_LARGEST + 1)
            report = parse_object(data, path=COMPOSITION, limits=JsonLimits(size=_LARGEST)).get("report")
        except AdaptersError:
            return None
        return report if isinstance(report, dict) else None
