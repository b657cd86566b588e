"""Figures for whoever watches a registry: a few counts, each of which an index or a small table answers."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.engine import Connection

from registry.domain.figures import Figures
from registry.domain.jobs import JobState
from registry.domain.webhooks import DeliveryState, WebhookState
from registry.sql.tables.events import event_counter
from registry.sql.tables.jobs import jobs
from registry.sql.tables.uploads import uploads
from registry.sql.tables.webhooks import deliveries, webhooks

_NEWEST = 100  # jobs that an average is of
_TIMED = (JobState.DONE, JobState.FAILED)
_WAITING = (DeliveryState.RETRYING.value, DeliveryState.REPLAYING.value)


class Gauges:
    """Queries on how much there is to do."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, at: datetime) -> Figures:
        """The figures as of a moment."""
        uploads_open, upload_bytes = self._uploads()
        return Figures(
            jobs=self._jobs(),
            job_seconds={state.value: self._seconds(state) for state in _TIMED},
            oldest_queued=self._oldest_queued(at),
            webhooks=self._webhooks(),
            deliveries=self._deliveries(),
            behind=self._behind(),
            uploads=uploads_open,
            upload_bytes=upload_bytes,
        )

    def _jobs(self) -> dict[str, int]:
        counted = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        return {state.value: 0 for state in JobState} | self._pairs(counted)

    def _seconds(self, state: JobState) -> float:
        newest = select(jobs.c.started_at, jobs.c.ended_at).where(jobs.c.state == state.value)
        rows = self._connection.execute(newest.order_by(jobs.c.id.desc()).limit(_NEWEST))
        took = [(row.ended_at - row.started_at).total_seconds() for row in rows if row.started_at and row.ended_at]
        return sum(took) / len(took) if took else 0.0

    def _oldest_queued(self, at: datetime) -> float:
        oldest = select(jobs.c.created_at).where(jobs.c.state == JobState.QUEUED.value).order_by(jobs.c.id).limit(1)
        created = self._connection.scalar(oldest)
        return max(0.0, (at - created).total_seconds()) if created else 0.0

    def _webhooks(self) -> dict[str, int]:
        counted = select(webhooks.c.state, func.count().label("number")).group_by(webhooks.c.state)
        return {state.value: 0 for state in WebhookState} | self._pairs(counted)

    def _deliveries(self) -> int:
        of_each = (
            select(func.count())
            .where(deliveries.c.webhook_id == webhooks.c.id, deliveries.c.state.in_(_WAITING))
            .scalar_subquery()
        )
        return int(self._connection.scalar(select(func.sum(of_each)).select_from(webhooks)) or 0)

    def _behind(self) -> int:
        newest = select(event_counter.c.value).scalar_subquery()
        furthest = select(func.max(newest - webhooks.c.cursor)).where(webhooks.c.state == WebhookState.ACTIVE.value)
        return int(self._connection.scalar(furthest) or 0)

    def _uploads(self) -> tuple[int, int]:
        unfinished = select(func.count(), func.sum(uploads.c.size)).where(uploads.c.completed_at.is_(None))
        count, size = self._connection.execute(unfinished).one()
        return int(count), int(size or 0)

    def _pairs(self, statement: Select[Any]) -> dict[str, int]:
        return {row.state: row.number for row in self._connection.execute(statement)}
