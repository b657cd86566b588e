"""The outbox and its counter."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Row, RowId, UtcDateTime, table


class EventRow(Row):
    """A line of the outbox, and of the audit log. `adapter` is `team/name` as it was written.

    `chain` is a sha256 over the line and the chain before it; lines from before there was one have none.
    """

    __tablename__ = "events"

    cursor: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    adapter: Mapped[str | None]
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str | None]
    chain: Mapped[str | None] = mapped_column(Digest)


class EventCounterRow(Row):
    """The last cursor and chain: one row, whose lock makes cursor order the order of commits."""

    __tablename__ = "event_counter"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(RowId)
    chain: Mapped[str | None] = mapped_column(Digest)


events = table(EventRow)
event_counter = table(EventCounterRow)
