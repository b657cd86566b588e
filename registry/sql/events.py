"""Events: the outbox, written in the transaction that it tells of, in commit order."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import Event
from registry.domain.reference import AdapterName
from registry.sql.tables.events import event_counter, events


class Events:
    """Queries on events."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, kind: str, name: AdapterName | None, payload: dict[str, Any]) -> int:
        """Write an event and return its cursor.

        The counter stays locked until the commit, so that cursors have no gaps and appear in order: a reader that has
        seen one has seen all before it. Append last, for everybody who appends waits.
        """
        counted = update(event_counter).values(value=event_counter.c.value + 1).returning(event_counter.c.value)
        cursor = self._connection.execute(counted).scalar_one()
        row = {
            "cursor": cursor,
            "kind": kind,
            "adapter": None if name is None else str(name),
            "payload": payload,
            "at": datetime.now(UTC),
        }
        self._connection.execute(insert(events), row)
        return int(cursor)

    def since(self, cursor: int, *, limit: int = 1000) -> list[Event]:
        """The next events after a cursor, in order."""
        statement = select(events).where(events.c.cursor > cursor).order_by(events.c.cursor).limit(limit)
        return [
            Event(
                cursor=row.cursor,
                kind=row.kind,
                adapter=None if row.adapter is None else AdapterName.parse(row.adapter),
                payload=row.payload,
                at=row.at,
            )
            for row in self._connection.execute(statement)
        ]
