"""The outbox and its counter."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Row, RowId, UtcDateTime, table


class EventRow(Row):
    """A line of the outbox. `adapter` is `team/name` as it was written."""

    __tablename__ = "events"

    cursor: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    adapter: Mapped[str | None]
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class EventCounterRow(Row):
    """The last cursor: one row, whose lock makes cursor order the order of commits."""

    __tablename__ = "event_counter"
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(RowId)


events = table(EventRow)
event_counter = table(EventCounterRow)
