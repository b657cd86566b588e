"""Xorbs that a team's clients sent, and where their chunks are by now."""

import sys
from array import array
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import LOCAL_OWNER
from registry.domain.xorbs import Span, Xorb
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_absent
from registry.sql.tables.names import namespaces
from registry.sql.tables.xorbs import xorb_caches, xorb_spans, xorbs

_BATCH = 500


class Xorbs:
    """Queries on xorbs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, team: str, name: str) -> Xorb | None:
        """A team's xorb, with its spans."""
        row = self._connection.execute(_xorbs(team).where(xorbs.c.name == name)).first()
        return None if row is None else self._record(row)

    def keep(
        self, team: str, name: str, *, ends: Sequence[int], staged: str, at: datetime, actor: str = LOCAL_OWNER
    ) -> str | None:
        """Record a xorb whose bytes wait as `staged`; returns what of the staging area nobody needs any more.

        That is what waited before, or, when spans have all of the xorb, `staged` itself. Raises NameTaken.
        """
        namespace_id = Adapters(self._connection).ensure_namespace(team, actor=actor, at=at)
        row = {
            "namespace_id": namespace_id,
            "name": name,
            "ends": _packed(ends),
            "size": ends[-1],
            "staged": staged,
            "seen_at": at,
        }
        if insert_absent(self._connection, xorbs, [row]):
            return None
        mine = (xorbs.c.namespace_id == namespace_id) & (xorbs.c.name == name)
        found: str | None = self._connection.scalar(select(xorbs.c.staged).where(mine).with_for_update())
        if found is None:
            return staged
        self._connection.execute(update(xorbs).where(mine).values(staged=staged, seen_at=at))
        return found

    def see(self, xorb: Xorb, *, at: datetime) -> None:
        """Note that a client sent a xorb again, and so will know of it for a while."""
        self._connection.execute(update(xorbs).where(xorbs.c.id == xorb.id).values(seen_at=at))

    def staged_bytes(self, team: str) -> int:
        """Plain bytes of a team's xorbs that wait."""
        mine = xorbs.c.namespace_id == _team_id(team).scalar_subquery()
        waiting = select(func.sum(xorbs.c.size)).where(mine, xorbs.c.staged.is_not(None))
        return int(self._connection.scalar(waiting) or 0)

    def remember(self, spans: Iterable[tuple[int, Span]]) -> None:
        """Record spans by the id of their xorb; where one begins at the same chunk, that one stays."""
        rows = [
            {"xorb_id": xorb, "first": span.first, "end": span.end, "sha256": span.sha256, "start": span.offset}
            for xorb, span in sorted(spans, key=lambda item: (item[0], item[1].first))
        ]
        for start in range(0, len(rows), _BATCH):
            insert_absent(self._connection, xorb_spans, rows[start : start + _BATCH])

    def unstage(self, xorb: Xorb) -> bool:
        """Note that a xorb's own bytes wait no longer; False if they are others by now, or none."""
        waiting = (xorbs.c.id == xorb.id) & (xorbs.c.staged == xorb.staged)
        return self._connection.execute(update(xorbs).where(waiting).values(staged=None)).rowcount == 1

    def forget(self, xorb: Xorb) -> None:
        """Forget a xorb and its spans."""
        self._forget([xorb.id])

    def staged_before(self, moment: datetime, *, limit: int) -> list[tuple[str, Xorb]]:
        """The xorbs that wait since before a moment, each with its team."""
        statement = _xorbs().where(xorbs.c.staged.is_not(None), xorbs.c.seen_at < moment).order_by(xorbs.c.seen_at)
        return [(row.team, self._record(row)) for row in self._connection.execute(statement.limit(limit)).all()]

    def forget_before(self, moment: datetime, *, limit: int) -> int:
        """Forget some xorbs of which no client was told since before a moment; how many there were."""
        old = select(xorbs.c.id).where(xorbs.c.staged.is_(None), xorbs.c.seen_at < moment).limit(limit)
        ids = list(self._connection.scalars(old))
        self._forget(ids)
        return len(ids)

    def lose(self, sha256: str) -> list[str]:
        """Forget what refers to a blob that is gone, and xorbs that have missing chunks then; returns their teams."""
        hit = select(xorb_spans.c.xorb_id).where(xorb_spans.c.sha256 == sha256)
        found = [
            (row.team, row.id)
            for row in self._connection.execute(_xorbs().where(xorbs.c.id.in_(hit), xorbs.c.staged.is_(None)))
        ]
        self._connection.execute(delete(xorb_spans).where(xorb_spans.c.sha256 == sha256))
        self._forget([xorb for _, xorb in found])
        return sorted({team for team, _ in found})

    # -- what clients may keep in mind --------------------------------------------------------------------------------

    def epoch(self, team: str) -> str | None:
        """In which epoch a team's clients are; None if it has none yet, or isn't there."""
        mine = xorb_caches.c.namespace_id == _team_id(team).scalar_subquery()
        found: str | None = self._connection.scalar(select(xorb_caches.c.epoch).where(mine))
        return found

    def begin_epoch(self, team: str, epoch: str, *, after: str | None) -> str | None:
        """Begin an epoch in place of `after`, unless another one was begun; which one it is. None: no such team."""
        namespace_id = self._connection.scalar(_team_id(team))
        if namespace_id is None:
            return None
        mine = xorb_caches.c.namespace_id == namespace_id
        if after is None:
            insert_absent(self._connection, xorb_caches, [{"namespace_id": namespace_id, "epoch": epoch}])
        else:
            former = mine & (xorb_caches.c.epoch == after)
            self._connection.execute(update(xorb_caches).where(former).values(epoch=epoch))
        return self._connection.scalar(select(xorb_caches.c.epoch).where(mine))

    def _record(self, row: Any) -> Xorb:
        statement = select(xorb_spans).where(xorb_spans.c.xorb_id == row.id).order_by(xorb_spans.c.first)
        found = self._connection.execute(statement)
        spans = [Span(span.first, span.end, span.sha256, span.start) for span in found]
        return Xorb.of(row.id, row.name, ends=_unpacked(row.ends), staged=row.staged, spans=spans)

    def _forget(self, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _BATCH):
            some = ids[start : start + _BATCH]
            self._connection.execute(delete(xorb_spans).where(xorb_spans.c.xorb_id.in_(some)))
            self._connection.execute(delete(xorbs).where(xorbs.c.id.in_(some)))


def _team_id(team: str) -> Select[Any]:
    return select(namespaces.c.id).where(namespaces.c.name_key == team.lower())


def _xorbs(team: str | None = None) -> Select[Any]:
    found = select(xorbs, namespaces.c.name.label("team")).join(namespaces, namespaces.c.id == xorbs.c.namespace_id)
    return found if team is None else found.where(namespaces.c.name_key == team.lower())


def _packed(ends: Iterable[int]) -> bytes:
    return _little_endian(array("I", ends)).tobytes()


def _unpacked(data: bytes) -> Sequence[int]:
    ends = array("I")
    ends.frombytes(data)
    return _little_endian(ends)


def _little_endian(ends: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        ends.byteswap()
    return ends
