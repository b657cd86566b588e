"""Jobs: what is to be done, by whom it was asked for, and who does it."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, CompressedJson, Digest, Key, Row, RowId, UtcDateTime, table


class JobRow(Row):
    """A job. Ids sort by time. `target` is `team/name` as it was written; none for all of the registry.

    `live_key` is a sha256 over requester and order, and none once the job has ended: the same is never asked for
    twice at a time. `lease_until`: of a running job, when its worker counts as dead; of a queued one, when it may
    begin.
    """

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "id"), Index(None, "team_key", "id"))

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(Key)
    live_key: Mapped[str | None] = mapped_column(Digest, unique=True)
    requester: Mapped[str]
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"))
    team_key: Mapped[str | None] = mapped_column(Key)
    target: Mapped[str | None]
    recipe_digest: Mapped[str | None] = mapped_column(Digest)
    title: Mapped[str]
    order: Mapped[dict[str, Any]] = mapped_column(JSON)
    what: Mapped[str] = mapped_column(default="")
    done: Mapped[int] = mapped_column(RowId, default=0)
    of: Mapped[int] = mapped_column(RowId, default=0)
    cancelling: Mapped[bool] = mapped_column(default=False)
    version: Mapped[int | None] = mapped_column(RowId)
    commit: Mapped[str | None] = mapped_column(CommitId)
    created: Mapped[bool | None]
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    result: Mapped[dict[str, Any] | None] = mapped_column(CompressedJson)
    attempts: Mapped[int] = mapped_column(default=0)
    slot: Mapped[str | None]
    claim: Mapped[str | None]
    lease_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


jobs = table(JobRow)
