"""A worker: runs jobs from the registry's queue, one at a time, until it is asked to stop.

A second thread tells the registry that it lives, how far the job is, and learns whether to stop; the one that computes
hears of it at the next module. torch is loaded when the first composition comes. Nothing of a job is seen before its
end: what it makes is published in the transaction that ends it.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from importlib.util import find_spec

from registry.domain.error_documents import error_document
from registry.domain.errors import (
    AdaptersError,
    ClaimLost,
    DatabaseFailure,
    JobCancelled,
    NotAuthenticated,
    StorageFailure,
)
from registry.domain.jobs import (
    CollectionOrder,
    CompositionOrder,
    JobKind,
    JobProgress,
    JobState,
    VerificationOrder,
)
from registry.service import Registry
from registry.service.working import LEASE, MOST_ATTEMPTS, Claimed

ASK_EVERY = 0.1  # seconds between two looks whether anything changed
ASK_ANYWAY = 1.0  # seconds after which the queue is looked at even so: of changes elsewhere nobody tells
_BEAT = 0.25  # seconds between two notes of progress
_SILENCE = 2.0  # seconds after which a beat comes without any
_GONE = "the token that it was asked for with is expired or revoked"
_UNEXPECTED = {"error": "unexpected", "message": "the worker failed; its log says why", "hint": "", "detail": {}}
_log = logging.getLogger("adapters.jobs")


class Stopped(Exception):
    """The worker is to stop; its job goes back to the queue."""


def kinds_here() -> tuple[JobKind, ...]:
    """What can be done here: compositions need torch."""
    return tuple(JobKind) if find_spec("torch") else (JobKind.VERIFY, JobKind.COLLECT)


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker on a registry with an operator's rights. `slot` names it over its restarts, `device` is `compose`'s."""

    registry: Registry
    slot: str
    stopping: threading.Event
    device: str = "auto"

    def run(self, *, drain: bool = False) -> None:
        """Run jobs until `stopping` is set; `drain`: or until none waits."""
        self._outliving_failures(lambda: self.registry.recover_slot(self.slot))
        while not self.stopping.is_set():
            mark = self.registry.changes.mark()
            if not self._outliving_failures(self.run_next) and not self._wait(mark, drain):
                return

    def run_next(self) -> bool:
        """Run the next job; False if none waits."""
        claimed = self.registry.claim_job(kinds_here(), slot=self.slot)
        if claimed is None:
            return False
        began = time.monotonic()
        state = self._run(claimed)
        fields = {"job": claimed.job.id, "kind": claimed.job.kind, "attempt": claimed.job.attempts, "state": state}
        _log.info(json.dumps({**fields, "seconds": round(time.monotonic() - began, 3)}))
        return True

    # -- one job ------------------------------------------------------------------------------------------------------

    def _run(self, claimed: Claimed) -> str:
        """Run a job to one of its ends; returns what became of it."""
        job, claim = claimed.job, claimed.claim
        try:
            with _beating(self.registry, claimed, self.stopping) as pulse:
                self._do(claimed, pulse)
            return JobState.DONE
        except Stopped:
            self.registry.release_job(claim)
            return "released"
        except (JobCancelled, ClaimLost):
            self.registry.end_job(job, claim, JobState.CANCELLED)
            return JobState.CANCELLED
        except (DatabaseFailure, StorageFailure) as error:
            if job.attempts < MOST_ATTEMPTS:
                self.registry.release_job(claim, retry_in=timedelta(seconds=2**job.attempts))
                return "to be tried again"
            return self._fail(claimed, error)
        except AdaptersError as error:
            return self._fail(claimed, error)
        except Exception:
            _log.exception("unexpected error in job %s", job.id)
            self.registry.end_job(job, claim, JobState.FAILED, error=_UNEXPECTED)
            return JobState.FAILED

    def _fail(self, claimed: Claimed, error: AdaptersError) -> str:
        self.registry.end_job(claimed.job, claimed.claim, JobState.FAILED, error=error_document(error))
        return JobState.FAILED

    def _do(self, claimed: Claimed, pulse: "Pulse") -> None:
        if claimed.caller is None:
            raise NotAuthenticated(_GONE)
        theirs = self.registry.on_behalf_of(claimed.caller)
        if claimed.job.kind is JobKind.VERIFY:
            self._verify(theirs, claimed, pulse)
        elif claimed.job.kind is JobKind.COLLECT:
            self._collect(theirs, claimed, pulse)
        else:
            self._compose(theirs, claimed, pulse)

    def _verify(self, theirs: Registry, claimed: Claimed, pulse: "Pulse") -> None:
        order = VerificationOrder.from_document(claimed.job.order)
        version = theirs.peek(order.version) if order.version else None
        found = theirs.verify(version, deep=order.deep, progress=pulse.progress)
        self.registry.end_job(claimed.job, claimed.claim, JobState.DONE, result=asdict(found))

    def _collect(self, theirs: Registry, claimed: Claimed, pulse: "Pulse") -> None:
        order = CollectionOrder.from_document(claimed.job.order)
        found = theirs.collect(grace=order.grace, dry_run=order.dry_run, progress=pulse.progress)
        self.registry.end_job(claimed.job, claimed.claim, JobState.DONE, result=asdict(found))

    def _compose(self, theirs: Registry, claimed: Claimed, pulse: "Pulse") -> None:
        from composition.jobs import blend  # lazy: start-up time
        from composition.threads import prepare  # lazy: start-up time

        order = CompositionOrder.from_document(claimed.job.order)
        prepare(self.device)
        made = blend(
            theirs,
            order.recipe,
            order.into,
            device=self.device,
            aliases=order.aliases,
            message=order.message,
            metadata=order.metadata,
            across_bases=order.across_bases,
            force=order.force,
            dry_run=order.dry_run,
            every_entry=order.report == "full",
            asked=order.asked,
            claim=claimed.claim,
            progress=pulse.progress,
        )
        if made.report is None or order.dry_run:  # else it has ended with what was published
            report = made.report.document() if made.report else None
            number = made.version.number if made.version else None
            self.registry.end_job(claimed.job, claimed.claim, JobState.DONE, version=number, result=report)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def _outliving_failures(self, act: Callable[[], bool | None]) -> bool:
        try:
            return bool(act())
        except DatabaseFailure as error:
            _log.warning(json.dumps({"error": error.code, "message": error.message}))
            return False

    def _wait(self, mark: object, drain: bool) -> bool:
        """Wait until something may have changed; False if there is nothing to wait for."""
        if drain:
            return False
        end = time.monotonic() + ASK_ANYWAY
        while time.monotonic() < end and not self.stopping.wait(ASK_EVERY):
            if mark is None or self.registry.changes.mark() != mark:
                break
        return True


class Pulse:
    """How far a job is, passed on to the registry by a thread of its own, and why it should stop."""

    def __init__(self, registry: Registry, claimed: Claimed, stopping: threading.Event) -> None:
        self._registry = registry
        self._claim = claimed.claim
        self._stopping = stopping
        self._now = JobProgress()
        self._stop: Exception | None = None
        self._until = time.monotonic() + LEASE.total_seconds()

    def progress(self, what: str, done: int, of: int) -> None:
        """Note how far it is. Raises what the job is to be stopped by."""
        self._now = JobProgress(what, done, of)
        if self._stopping.is_set():
            raise Stopped
        if self._stop is not None:
            raise self._stop

    def beat(self, ended: threading.Event) -> None:
        """Tell the registry until the job has ended, or is lost."""
        told, at = JobProgress(), time.monotonic()
        while self._stop is None and not ended.wait(_BEAT):
            if self._now == told and time.monotonic() < at + _SILENCE:
                self._ask(partial(self._registry.check_claim, self._claim))
                continue
            told, at = self._now, time.monotonic()
            self._ask(partial(self._registry.beat, self._claim, told), renews=True)

    def _ask(self, ask: Callable[[], None], *, renews: bool = False) -> None:
        began = time.monotonic()
        try:
            ask()
            self._until = began + LEASE.total_seconds() if renews else self._until
        except (JobCancelled, ClaimLost) as error:
            self._stop = error
        except DatabaseFailure:
            if time.monotonic() > self._until:  # by now it is somebody else's
                self._stop = ClaimLost(self._claim.job)


@contextmanager
def _beating(registry: Registry, claimed: Claimed, stopping: threading.Event) -> Iterator[Pulse]:
    pulse, ended = Pulse(registry, claimed, stopping), threading.Event()
    thread = threading.Thread(target=pulse.beat, args=(ended,), name="beat", daemon=True)
    thread.start()
    try:
        yield pulse
    finally:
        ended.set()
        thread.join()
