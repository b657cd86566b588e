"""Waiting for a job: how far it is on the progress bar, and its end as a result or as the error that it met."""

import time
from collections.abc import Callable

from cli.output import Progress, warn
from cli.remote.answers import error_from
from registry.domain.errors import AdaptersError, Failure, JobCancelled
from registry.domain.jobs import Job, JobState

_FIRST, _LONGEST = 0.05, 0.5  # seconds between two looks; they become longer
_PATIENCE = 10.0  # seconds in the queue after which one is told


def wait_for(job: Job, read: Callable[[], Job], progress: Progress) -> Job:
    """A job as it is when it has ended. Whoever interrupts it is told that the job goes on."""
    pause, began, told = _FIRST, time.monotonic(), False
    try:
        while not job.has_ended:
            time.sleep(pause)
            pause = min(pause * 1.3, _LONGEST)
            job = read()
            if job.progress.of:
                progress(job.progress.what, job.progress.done, job.progress.of)
            if job.state is JobState.QUEUED and not told and time.monotonic() > began + _PATIENCE:
                warn(f"job {job.id} still waits: others are before it, or no `adapters worker` runs")
                told = True
    except KeyboardInterrupt:
        warn(f"job {job.id} goes on: `adapters jobs watch {job.id}`, or `adapters jobs cancel {job.id}`")
        raise
    return job


def check_done(job: Job) -> None:
    """Raise what a job that has ended met: its own error, or JobCancelled."""
    if job.state is JobState.CANCELLED:
        raise JobCancelled(job.id)
    if job.state is JobState.FAILED:
        raise error_of(job)


def error_of(job: Job) -> AdaptersError:
    """The error of a failed job, as the class that it was where it was met."""
    document = job.error or {}
    return error_from(document) or Failure(str(document.get("message", "the job failed")))
