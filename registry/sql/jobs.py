"""Jobs in the catalog: a queue whose order is that of the ids, and claims that one worker has at a time."""

import builtins
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, delete, func, literal, or_, select, update
from sqlalchemy.engine import Connection

from registry.domain.jobs import ENDED, Claim, Job, JobKind, JobProgress, JobState
from registry.domain.records import Page
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_absent
from registry.sql.tables.base import UtcDateTime
from registry.sql.tables.jobs import jobs

_LIVE = (JobState.QUEUED.value, JobState.RUNNING.value)
_COLUMNS = [column for column in jobs.c if column.name != "result"]  # which may be large
_FREED: Mapping[str, Any] = {"slot": None, "claim": None, "lease_until": None}


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asked for a job: a principal, by a token; none for whoever has the files."""

    principal: str
    token: int | None


class Jobs:
    """Queries on jobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- asking -------------------------------------------------------------------------------------------------------

    def add(self, job: Job, *, key: str, token: int | None, recipe_digest: str | None) -> Job:
        """Queue a job, or find the live one with the same key (a sha256).

        On PostgreSQL it waits for whoever has added that key and not committed.
        """
        row = {
            "id": job.id,
            "kind": job.kind.value,
            "state": job.state.value,
            "live_key": key,
            "requester": job.requester,
            "token_id": token,
            "team_key": job.target.team.lower() if job.target else None,
            "target": str(job.target) if job.target else None,
            "recipe_digest": recipe_digest,
            "title": job.title,
            "order": dict(job.order),
            "created_at": job.created_at,
        }
        # The other one may end between two statements: then the key is free again.
        while not insert_absent(self._connection, jobs, [row]):
            found = self._connection.execute(select(*_COLUMNS).where(jobs.c.live_key == key)).first()
            if found is not None:
                return _record(found)
        return job

    def find(self, job_id: str) -> Job | None:
        """A job by its id."""
        row = self._connection.execute(select(*_COLUMNS).where(jobs.c.id == job_id)).first()
        return None if row is None else _record(row)

    def result(self, job_id: str) -> dict[str, Any] | None:
        """What a job that published nothing found out."""
        found: dict[str, Any] | None = self._connection.scalar(select(jobs.c.result).where(jobs.c.id == job_id))
        return found

    def list(
        self,
        *,
        teams: Collection[str] | None,
        team: str | None = None,
        state: JobState | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page[Job]:
        """Jobs, newest first; `teams` (lower-cased) are those whose jobs may be seen, None stands for all."""
        statement = select(*_COLUMNS).order_by(jobs.c.id.desc()).limit(limit + 1)
        if teams is not None:
            statement = statement.where(jobs.c.team_key.in_(sorted(teams)))
        if team is not None:
            statement = statement.where(jobs.c.team_key == team.lower())
        if state is not None:
            statement = statement.where(jobs.c.state == state.value)
        if cursor is not None:
            statement = statement.where(jobs.c.id < cursor)
        rows = self._connection.execute(statement).all()
        found = tuple(_record(row) for row in rows[:limit])
        return Page(found, found[-1].id if len(rows) > limit else None)

    def count_live(self, team: str | None) -> int:
        """How many jobs of a team (None: of none) are queued or running."""
        key = None if team is None else team.lower()
        counted = select(func.count()).where(jobs.c.team_key.is_not_distinct_from(key), jobs.c.state.in_(_LIVE))
        return self._connection.scalar(counted) or 0

    def cancel(self, job_id: str, *, at: datetime) -> Job | None:
        """Cancel a job if it waits; let its worker know if it runs. What it is then."""
        waiting = (jobs.c.id == job_id) & (jobs.c.state == JobState.QUEUED.value)
        ended = {"state": JobState.CANCELLED.value, "live_key": None, "ended_at": at, **_FREED}
        if not self._connection.execute(update(jobs).where(waiting).values(ended)).rowcount:
            running = (jobs.c.id == job_id) & (jobs.c.state == JobState.RUNNING.value)
            self._connection.execute(update(jobs).where(running).values(cancelling=True, live_key=None))
        return self.find(job_id)

    def forget_before(self, moment: datetime) -> None:
        """Forget the jobs that ended before a moment."""
        ended = jobs.c.state.in_([state.value for state in ENDED])
        self._connection.execute(delete(jobs).where(ended, jobs.c.ended_at < moment))

    # -- working ------------------------------------------------------------------------------------------------------

    def is_work(self, kinds: Collection[JobKind], *, at: datetime) -> bool:
        """Whether a job may be claimed, or has a worker that counts as dead."""
        return self._connection.scalar(_waiting(kinds, at).limit(1)) is not None or bool(self._overdue(at))

    def claim(self, kinds: Collection[JobKind], claim: str, *, slot: str, at: datetime, until: datetime) -> Job | None:
        """Give the oldest job that waits to a worker, until a moment; no other one gets it meanwhile."""
        oldest = _waiting(kinds, at).limit(1).with_for_update(skip_locked=True)
        job_id = self._connection.scalar(oldest)
        if job_id is None:
            return None
        taken = {
            "state": JobState.RUNNING.value,
            "slot": slot,
            "claim": claim,
            "lease_until": until,
            "attempts": jobs.c.attempts + 1,
            "started_at": func.coalesce(jobs.c.started_at, literal(at, UtcDateTime())),
        }
        self._connection.execute(update(jobs).where(jobs.c.id == job_id).values(taken))
        return self.find(job_id)

    def beat(self, claim: Claim, progress: JobProgress, *, until: datetime) -> bool:
        """Note how far a job is, and that its worker lives; False if it should stop."""
        noted = {"lease_until": until, "what": progress.what, "done": progress.done, "of": progress.of}
        return bool(self._connection.execute(update(jobs).where(_held(claim)).values(noted)).rowcount)

    def is_held(self, claim: Claim) -> bool:
        """Whether a claim stands, and the job wasn't asked to stop."""
        return self._connection.scalar(select(jobs.c.id).where(_held(claim))) is not None

    def release(self, claim: Claim, *, until: datetime | None, counted: bool) -> bool:
        """Put a job back into the queue, not to begin before a moment; `counted`: as an attempt that failed."""
        attempts = jobs.c.attempts if counted else jobs.c.attempts - 1
        freed = {**_FREED, "state": JobState.QUEUED.value, "lease_until": until, "attempts": attempts}
        return bool(self._connection.execute(update(jobs).where(_held(claim)).values(freed)).rowcount)

    def end(self, claim: Claim, state: JobState, *, at: datetime, **outcome: Any) -> bool:
        """End a job that its worker still holds. A job that was asked to stop is held only for being cancelled."""
        held = _claimed(claim) if state is JobState.CANCELLED else _held(claim)
        return self._end(held, state, at=at, **outcome)

    def overdue(self, at: datetime, *, slot: str) -> builtins.list[tuple[Job, Claim]]:
        """The jobs whose worker counts as dead, and those of a slot; locked, but for what others have locked."""
        left = select(*_COLUMNS).where(or_(_dead(at), _running(jobs.c.slot == slot))).with_for_update(skip_locked=True)
        return [(_record(row), Claim(row.id, row.claim)) for row in self._connection.execute(left)]

    def asker(self, job_id: str) -> Asker:
        """Who asked for a job that is there."""
        row = self._connection.execute(select(jobs.c.requester, jobs.c.token_id).where(jobs.c.id == job_id)).one()
        return Asker(row.requester, row.token_id)

    def _overdue(self, at: datetime) -> str | None:
        found: str | None = self._connection.scalar(select(jobs.c.id).where(_dead(at)).limit(1))
        return found

    def _end(self, held: Any, state: JobState, *, at: datetime, **outcome: Any) -> bool:
        ended = {**_FREED, **outcome, "state": state.value, "live_key": None, "ended_at": at}
        return bool(self._connection.execute(update(jobs).where(held).values(ended)).rowcount)


def _waiting(kinds: Collection[JobKind], at: datetime) -> Select[Any]:
    """Ids of jobs that may begin, oldest first; of two with the same recipe and target the second waits."""
    other = jobs.alias()
    same = select(other.c.id).where(
        other.c.state == JobState.RUNNING.value,
        other.c.recipe_digest == jobs.c.recipe_digest,
        other.c.target == jobs.c.target,
    )
    return (
        select(jobs.c.id)
        .where(
            jobs.c.state == JobState.QUEUED.value,
            jobs.c.kind.in_([kind.value for kind in kinds]),
            or_(jobs.c.lease_until.is_(None), jobs.c.lease_until <= at),
            ~same.correlate(jobs).exists(),
        )
        .order_by(jobs.c.id)
    )


def _running(condition: Any) -> Any:
    return and_(jobs.c.state == JobState.RUNNING.value, condition)


def _dead(at: datetime) -> Any:
    return _running(jobs.c.lease_until <= at)


def _claimed(claim: Claim) -> Any:
    return _running(and_(jobs.c.id == claim.job, jobs.c.claim == claim.secret))


def _held(claim: Claim) -> Any:
    return and_(_claimed(claim), jobs.c.cancelling.is_(False))


def _record(row: Any) -> Job:
    return Job(
        id=row.id,
        kind=JobKind(row.kind),
        state=JobState(row.state),
        requester=row.requester,
        target=AdapterName.parse(row.target) if row.target else None,
        title=row.title,
        order=row.order,
        created_at=row.created_at,
        progress=JobProgress(row.what, row.done, row.of),
        cancelling=row.cancelling,
        version=row.version,
        commit=row.commit,
        created=row.created,
        error=row.error,
        attempts=row.attempts,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
