"""Events: the outbox, written in the transaction that it tells of, in commit order; and the audit log, hash-chained.

chain = sha256 of the canonical JSON of {line, chain before it}
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.digest import json_digest
from registry.domain.records import LOCAL_OWNER, Event
from registry.domain.reference import AdapterName
from registry.sql.founding import take_founded
from registry.sql.readable import PUBLIC
from registry.sql.tables.events import event_counter, events
from registry.sql.tables.names import namespaces

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Place:
    """Where the log ends: its last cursor, and the chain there, which is another one after a backup was restored."""

    cursor: int
    chain: str | None


class Events:
    """Queries on events."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def append(self, kind: str, name: AdapterName | None, payload: dict[str, Any], *, actor: str = LOCAL_OWNER) -> int:
        """Write an event and return its cursor.

        The counter stays locked until the commit, so that cursors have no gaps and appear in order: a reader that has
        seen one has seen all before it. Append last, for everybody who appends waits. Teams that the transaction made
        are told of before.
        """
        self.tell_founded()
        return self._append(kind, name, payload, actor=actor)

    def tell_founded(self) -> None:
        """Append an event for each team that the transaction made and that none tells of yet."""
        for team, actor in take_founded(self._connection):
            visibility = select(namespaces.c.visibility).where(namespaces.c.name_key == team.lower())
            public = self._connection.scalar(visibility) == PUBLIC
            self._append("team.created", None, {"team": team, "public": public}, actor=actor)

    def _append(self, kind: str, name: AdapterName | None, payload: dict[str, Any], *, actor: str) -> int:
        counted = update(event_counter).values(value=event_counter.c.value + 1)
        cursor, before = self._connection.execute(counted.returning(event_counter.c.value, event_counter.c.chain)).one()
        row = {
            "cursor": cursor,
            "kind": kind,
            "adapter": None if name is None else str(name),
            "payload": payload,
            "at": datetime.now(UTC),
            "actor": actor,
        }
        chain = chained(row, before)
        self._connection.execute(insert(events), {**row, "chain": chain})
        self._connection.execute(update(event_counter).values(chain=chain))
        return int(cursor)

    def since(self, cursor: int, *, limit: int = 1000) -> list[Event]:
        """The next events after a cursor, in order."""
        statement = select(events).where(events.c.cursor > cursor).order_by(events.c.cursor).limit(limit)
        return [_record(row) for row in self._connection.execute(statement)]

    def at(self, cursor: int) -> Event | None:
        """The event of a cursor."""
        row = self._connection.execute(select(events).where(events.c.cursor == cursor)).first()
        return None if row is None else _record(row)

    def last(self) -> int:
        """The newest cursor; 0 before the first event."""
        return int(self._connection.scalar(select(event_counter.c.value)) or 0)

    def place(self) -> Place:
        """Where the log ends now."""
        row = self._connection.execute(select(event_counter.c.value, event_counter.c.chain)).first()
        return Place(row.value, row.chain) if row else Place(0, None)

    def headings(self, since: Place, *, limit: int) -> list[tuple[str, AdapterName | None]] | None:
        """Kind and adapter of every event after a place; None if they are too many, or the place is of another log."""
        columns = select(events.c.cursor, events.c.chain, events.c.kind, events.c.adapter)
        statement = columns.where(events.c.cursor >= since.cursor).order_by(events.c.cursor).limit(limit + 2)
        rows = list(self._connection.execute(statement))
        if since.cursor:
            if not rows or (rows[0].cursor, rows[0].chain) != (since.cursor, since.chain):
                return None
            del rows[0]
        if len(rows) > limit:
            return None
        return [(row.kind, AdapterName.parse(row.adapter) if row.adapter else None) for row in rows]

    def broken(self) -> Iterator[int]:
        """Cursors of lines that are not what was written, or from before which lines are gone.

        The last line's chain is compared with the counter's, so that a cut end is found too: it is reported as the
        cursor after the newest line that is there.
        """
        before: str | None = None
        cursor = 0
        for row in self._chained():
            whole = {name: row[name] for name in ("cursor", "kind", "adapter", "payload", "at", "actor")}
            if row["chain"] is not None and (row["cursor"] != cursor + 1 or row["chain"] != chained(whole, before)):
                yield row["cursor"]
            before, cursor = row["chain"], row["cursor"]
        if self._connection.scalar(select(event_counter.c.chain)) != before:
            yield cursor + 1

    def _chained(self) -> Iterator[Any]:
        statement = select(events).order_by(events.c.cursor).limit(_BATCH)
        last = 0
        while rows := self._connection.execute(statement.where(events.c.cursor > last)).mappings().all():
            yield from rows
            last = rows[-1]["cursor"]


def chained(row: dict[str, Any], before: str | None) -> str:
    """The chain of a line whose predecessor's chain is `before`."""
    line = {**row, "at": row["at"].isoformat(), "before": before}
    return json_digest(line)


def _record(row: Any) -> Event:
    return Event(
        cursor=row.cursor,
        kind=row.kind,
        adapter=None if row.adapter is None else AdapterName.parse(row.adapter),
        payload=row.payload,
        at=row.at,
        actor=row.actor,
    )
