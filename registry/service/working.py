"""Working: what a worker does with jobs: claim one, say that it lives and how far it is, end it.

A worker has a job until its lease is over, and renews it all the time. A job whose worker is dead goes back to the
queue, a few times. Whoever lost a job can neither publish nor end it: both happen in one transaction, which asks for
the claim; and it asks for the requester's rights, as they are then.

Leases are compared with this machine's clock: several machines with workers need theirs set to within a few seconds.
Wrong clocks let a job run twice; they don't let it publish twice.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from registry.domain.error_documents import error_document
from registry.domain.errors import AdapterNotFound, ClaimLost, JobCancelled, NotAuthenticated, WorkerLost
from registry.domain.jobs import Claim, Job, JobKind, JobProgress, JobState
from registry.domain.records import LOCAL_OWNER
from registry.domain.rights import Caller, Scope
from registry.service.access import caller_now
from registry.service.base_gate import Checked
from registry.service.core import OWNER
from registry.service.jobs import Jobs
from registry.service.publishing import Publication, Submission
from registry.sql.catalog import Catalog

LEASE = timedelta(seconds=10)  # without a sign of life, a worker counts as dead
MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is the worker's until further notice, and whoever asked for it, with the rights that they have now."""

    job: Job
    claim: Claim
    caller: Caller | None  # None: their token stands no more


class Working(Jobs):
    """Claim, beat, release, end. For those who run the registry."""

    def claim_job(self, kinds: Collection[JobKind], *, slot: str) -> Claimed | None:
        """The oldest job that waits, if there is one. Raises NotAllowed.

        `slot` names a worker over its restarts: what a job's dead predecessor left is taken up at once.
        """
        self.require_operator("run", "jobs")
        at = self.clock()
        with self.database.reading() as catalog:
            if not catalog.jobs.is_work(kinds, at=at):
                return None
        with self.database.writing() as catalog:
            self._take_back(catalog, slot)
            secret = secrets.token_hex(16)
            job = catalog.jobs.claim(kinds, secret, slot=slot, at=at, until=at + LEASE)
            if job is None:
                return None
            return Claimed(job, Claim(job.id, secret), self._standing(catalog, job))

    def recover_slot(self, slot: str) -> None:
        """Put back what a dead worker of this slot had in hand, without waiting for its lease to be over."""
        self.require_operator("run", "jobs")
        with self.database.writing() as catalog:
            self._take_back(catalog, slot)

    def beat(self, claim: Claim, progress: JobProgress) -> None:
        """Keep a job, and note how far it is. Raises JobCancelled, and ClaimLost for a job that is somebody else's."""
        with self.database.writing() as catalog:
            if not catalog.jobs.beat(claim, progress, until=self.clock() + LEASE):
                raise _stopped(catalog, claim)

    def check_claim(self, claim: Claim) -> None:
        """The same without noting anything: for looking often. Raises JobCancelled, ClaimLost."""
        with self.database.reading() as catalog:
            if not catalog.jobs.is_held(claim):
                raise _stopped(catalog, claim)

    def release_job(self, claim: Claim, *, retry_in: timedelta | None = None) -> None:
        """Put a job back into the queue; with `retry_in` it counts as an attempt, and may begin after so long."""
        until = None if retry_in is None else self.clock() + retry_in
        with self.database.writing() as catalog:
            catalog.jobs.release(claim, until=until, counted=retry_in is not None)

    def end_job(
        self,
        job: Job,
        claim: Claim,
        state: JobState,
        *,
        version: int | None = None,
        error: Mapping[str, Any] | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> None:
        """End a job of which nothing new was published, as cancelled if that was asked for meanwhile.

        Nothing happens if it is somebody else's by now.
        """
        with self.database.writing() as catalog:
            ended = self._end(catalog, job, claim, state, version=version, error=error, result=result)
            if not ended:
                self._end(catalog, job, claim, JobState.CANCELLED)

    # -- publishing ---------------------------------------------------------------------------------------------------

    def _publish(self, catalog: Catalog, submission: Submission, draft: Checked) -> Publication:
        if submission.claim is None:
            return super()._publish(catalog, submission, draft)
        job = catalog.jobs.find(submission.claim.job)
        if job is None:
            raise ClaimLost(submission.claim.job)
        self._check_requester(catalog, job, submission)
        publication = super()._publish(catalog, submission, draft)
        version = publication.version
        ended = self._end(
            catalog,
            job,
            submission.claim,
            JobState.DONE,
            version=version.number if version else None,
            commit=publication.commit,
            created=publication.created,
        )
        if not ended:
            raise ClaimLost(job.id)
        return publication

    def _check_requester(self, catalog: Catalog, job: Job, submission: Submission) -> None:
        """Refuse a result that its requester could by now neither read the inputs of nor publish."""
        theirs = self.on_behalf_of(self._requester(catalog, job))
        theirs.require_publishing(catalog, submission.name, submission.aliases)
        for name in job.inputs:
            if not theirs._may(catalog, Scope.READ, name.team):
                raise AdapterNotFound(str(name))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _requester(self, catalog: Catalog, job: Job) -> Caller:
        asker = catalog.jobs.asker(job.id)
        if asker.token is not None:
            return caller_now(catalog, asker.token, self.clock())
        if asker.principal == LOCAL_OWNER:
            return OWNER
        raise NotAuthenticated(f"{asker.principal} asked for it without a token")

    def _standing(self, catalog: Catalog, job: Job) -> Caller | None:
        try:
            return self._requester(catalog, job)
        except NotAuthenticated:
            return None

    def _take_back(self, catalog: Catalog, slot: str) -> None:
        """Put the jobs of dead workers back into the queue, or end them, if that happened too often."""
        for job, claim in catalog.jobs.overdue(self.clock(), slot=slot):
            if job.cancelling:
                self._end(catalog, job, claim, JobState.CANCELLED)
            elif job.attempts >= MOST_ATTEMPTS:
                error = error_document(WorkerLost(job.id, job.attempts))
                self._end(catalog, job, claim, JobState.FAILED, error=error)
            else:
                catalog.jobs.release(claim, until=None, counted=True)

    def _end(self, catalog: Catalog, job: Job, claim: Claim, state: JobState, **outcome: Any) -> bool:
        ended = catalog.jobs.end(claim, state, at=self.clock(), **outcome)
        if ended:
            payload = {"job": job.id, "state": state.value, "version": outcome.get("version")}
            catalog.events.append("job.ended", job.target, payload, actor=job.requester)
        return ended


def _stopped(catalog: Catalog, claim: Claim) -> JobCancelled | ClaimLost:
    job = catalog.jobs.find(claim.job)
    return JobCancelled(claim.job) if job and job.cancelling else ClaimLost(claim.job)
