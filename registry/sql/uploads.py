"""Uploads in flight, and the answers that a repeated request gets again."""

import builtins
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import Upload
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_absent
from registry.sql.tables.names import namespaces
from registry.sql.tables.uploads import answered_requests, uploads


class Uploads:
    """Queries on uploads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, upload: Upload) -> None:
        """Record a new upload, and its team if it is the first that comes there. Raises NameTaken."""
        namespace = Adapters(self._connection).ensure_namespace(upload.team, actor=upload.actor, at=upload.created_at)
        row = {
            "id": upload.id,
            "namespace_id": namespace,
            "sha256": upload.sha256,
            "size": upload.size,
            "part_size": upload.part_size,
            "multipart": upload.session,
            "actor": upload.actor,
            "created_at": upload.created_at,
            "completed_at": upload.completed_at,
        }
        self._connection.execute(insert(uploads), row)

    def find(self, upload_id: str) -> Upload | None:
        """An upload by its id."""
        row = self._connection.execute(_uploads().where(uploads.c.id == upload_id)).first()
        return None if row is None else _record(row)

    def unfinished(self, team: str, sha256: str, *, size: int, actor: str) -> Upload | None:
        """The newest upload of a file that an actor began for a team and didn't finish."""
        statement = (
            _uploads()
            .where(namespaces.c.name_key == team.lower(), uploads.c.sha256 == sha256, uploads.c.size == size)
            .where(uploads.c.actor == actor, uploads.c.completed_at.is_(None))
            .order_by(uploads.c.created_at.desc(), uploads.c.id)
            .limit(1)
        )
        row = self._connection.execute(statement).first()
        return None if row is None else _record(row)

    def begun_before(self, moment: datetime, *, limit: int) -> builtins.list[Upload]:
        """The oldest uploads, finished ones too, that began before a moment."""
        statement = _uploads().where(uploads.c.created_at < moment).order_by(uploads.c.created_at).limit(limit)
        return [_record(row) for row in self._connection.execute(statement)]

    def claim(self, upload_id: str, *, at: datetime, until: datetime) -> bool:
        """Take an upload for verifying it; False if somebody verifies it at `at`, it is done, or isn't there."""
        free = uploads.c.verifying_until.is_(None) | (uploads.c.verifying_until < at)
        return self._change(upload_id, {"verifying_until": until, "failure": None}, free)

    def go_on(self, upload_id: str, *, verified: int, until: datetime) -> bool:
        """Note how far verifying is, for whoever claimed it; False if the upload isn't there any more."""
        return self._change(upload_id, {"verified": verified, "verifying_until": until})

    def release(self, upload_id: str, *, failure: dict[str, Any] | None) -> None:
        """Note that nobody verifies an upload any more, and what was wrong, if it was."""
        self._change(upload_id, {"verifying_until": None, "failure": failure})

    def complete(self, upload_id: str, *, at: datetime) -> bool:
        """Note that a file has arrived; False if it has before, or the upload isn't there any more."""
        return self._change(upload_id, {"completed_at": at, "verifying_until": None})

    def _change(self, upload_id: str, values: dict[str, Any], *conditions: ColumnElement[bool]) -> bool:
        standing = (uploads.c.id == upload_id, uploads.c.completed_at.is_(None), *conditions)
        return self._connection.execute(update(uploads).where(*standing).values(values)).rowcount == 1

    def delete(self, upload_id: str) -> None:
        """Forget an upload."""
        self._connection.execute(delete(uploads).where(uploads.c.id == upload_id))


class AnsweredRequests:
    """Queries on answers to requests that named themselves."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def claim(self, principal: str, key: str, *, request: str, at: datetime) -> bool:
        """Take a key for a request (a sha256) until the commit; False if it is taken.

        On PostgreSQL it waits for whoever has taken it and not committed.
        """
        row = {"principal": principal.lower(), "key": key, "request": request, "answer": {}, "created_at": at}
        return insert_absent(self._connection, answered_requests, [row]) == 1

    def answer(self, principal: str, key: str, answer: dict[str, Any]) -> None:
        """Keep the answer to the request that has claimed a key."""
        self._connection.execute(update(answered_requests).where(_named(principal, key)).values(answer=answer))

    def find(self, principal: str, key: str) -> tuple[str, dict[str, Any]] | None:
        """The request (a sha256) that a key names, and its answer."""
        statement = select(answered_requests.c.request, answered_requests.c.answer).where(_named(principal, key))
        row = self._connection.execute(statement).first()
        return None if row is None else (row.request, row.answer)

    def forget_before(self, moment: datetime) -> None:
        """Forget the answers from before a moment."""
        self._connection.execute(delete(answered_requests).where(answered_requests.c.created_at < moment))


def _named(principal: str, key: str) -> Any:
    return (answered_requests.c.principal == principal.lower()) & (answered_requests.c.key == key)


def _uploads() -> Select[Any]:
    return select(uploads, namespaces.c.name.label("team")).join(namespaces, namespaces.c.id == uploads.c.namespace_id)


def _record(row: Any) -> Upload:
    return Upload(
        id=row.id,
        team=row.team,
        sha256=row.sha256,
        size=row.size,
        part_size=row.part_size,
        session=row.multipart or "",
        actor=row.actor,
        created_at=row.created_at,
        completed_at=row.completed_at,
        verifying_until=row.verifying_until,
        verified=row.verified or 0,
        failure=row.failure,
    )
