"""jobs: what was asked for, how far it is, and ending it."""

import json
from collections.abc import Sequence

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Output, facts, next_step, say, table
from cli.text import human_size
from cli.waiting import check_done, error_of, wait_for
from registry.domain.job_documents import job_document
from registry.domain.jobs import Job, JobState

_COUNTED = frozenset({"loading", "composing"})  # in adapters or modules; all other progress is in bytes


@click.group("jobs", cls=Commands)
def jobs() -> None:
    """See how far compositions are that were asked for, and cancel them."""


@jobs.command("list", examples=["adapters jobs list", "adapters jobs list --state running"])
@click.option("--team", help="Only this team's.")
@click.option("--state", type=click.Choice([state.value for state in JobState]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most.")
def jobs_list(out: Output, team: str | None, state: str | None, limit: int) -> None:
    """List the jobs of your teams, newest first.

    Ended ones are kept for 30 days.
    """
    with opened() as registry:
        page = registry.jobs(team=team, state=JobState(state) if state else None, limit=limit)
    document = {"jobs": [job_document(job) for job in page.items], "cursor": page.cursor}
    out.answer(document, lambda: _table(page.items) if page.items else say("no jobs"))


@jobs.command("show", examples=["adapters jobs show 019aa1b2c3d47f00d1e2c3b4a596"])
@click.argument("job_id", metavar="JOB", help="the job, as `adapters jobs list` names it")
def jobs_show(out: Output, job_id: str) -> None:
    """Show how far a job is, or what came of it."""
    with opened() as registry:
        job = registry.job(job_id)
    out.answer(job_document(job), lambda: describe_job(job))


@jobs.command("watch", examples=["adapters jobs watch 019aa1b2c3d47f00d1e2c3b4a596"])
@click.argument("job_id", metavar="JOB", help="the job, as `adapters jobs list` names it")
def jobs_watch(out: Output, job_id: str) -> None:
    """Wait for a job to end; a failed one gives its own error and exit code.

    With --json a line for each change of its state or progress.
    """
    with opened() as registry, out.progress() as progress:
        shown: list[str] = []

        def read() -> Job:
            job = registry.job(job_id)
            if out.as_json and (line := json.dumps(job_document(job), ensure_ascii=False)) not in shown[-1:]:
                shown.append(line)
                click.echo(line)
            return job

        job = wait_for(read(), read, progress)
    check_done(job)
    if not out.as_json:
        describe_job(job)


@jobs.command("cancel", examples=["adapters jobs cancel 019aa1b2c3d47f00d1e2c3b4a596"])
@click.argument("job_id", metavar="JOB", help="the job, as `adapters jobs list` names it")
def jobs_cancel(out: Output, job_id: str) -> None:
    """Cancel a job, your own or, as an admin, any of your team.

    One that runs stops at its next module. Nothing of it is kept.
    """
    with opened() as registry:
        job = registry.cancel_job(job_id)
    out.answer(job_document(job), lambda: describe_job(job))


def describe_job(job: Job) -> None:
    """Print a job."""
    rows = [("job", job.id), ("does", job.title), ("state", _state(job)), ("asked", _asked(job))]
    if job.version is not None and job.target:
        rows.append(("version", f"{job.target}@v{job.version}"))
    if job.error:
        rows.append(("error", error_of(job).message))
    facts(rows)
    if not job.has_ended:
        next_step(f"adapters jobs watch {job.id}")
    elif job.version is not None and job.target:
        next_step(f"adapters show {job.target}@v{job.version}")


def _table(found: Sequence[Job]) -> None:
    rows = [[job.id, _state(job), job.requester, f"{job.created_at:%Y-%m-%d %H:%M}", job.title] for job in found]
    table(["job", "state", "by", "asked", "does"], rows)


def _state(job: Job) -> str:
    if job.state is JobState.RUNNING and job.cancelling:
        return "running, to be cancelled"
    if job.state is JobState.RUNNING and job.progress.of:
        return f"running: {_amount(job)}"
    return job.state.value


def _amount(job: Job) -> str:
    at = job.progress
    show = str if at.what in _COUNTED else human_size
    return f"{at.what}, {show(at.done)} of {show(at.of)}"


def _asked(job: Job) -> str:
    attempts = f", attempt {job.attempts}" if job.attempts > 1 else ""
    return f"{job.created_at:%Y-%m-%d %H:%M} by {job.requester}{attempts}"
