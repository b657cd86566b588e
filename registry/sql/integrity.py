"""Which blobs are known to be damaged, and the versions that they hit; and when each was last read."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, select, update
from sqlalchemy.engine import Connection

from registry.domain.reference import AdapterName
from registry.sql.batches import batches
from registry.sql.roots import is_referenced
from registry.sql.tables.blobs import blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions

_DAMAGED = blobs.c.damage.is_not(None)


class Integrity:
    """Queries on damage."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def damaged(self, digests: set[str] | None = None) -> dict[str, int]:
        """Blobs that are known to be damaged (sha256 -> bytes), of all or of some."""
        statement = select(blobs.c.sha256, blobs.c.size).where(_DAMAGED, is_referenced()).order_by(blobs.c.sha256)
        if digests is None:
            return {row.sha256: row.size for row in self._connection.execute(statement)}
        found: dict[str, int] = {}
        for some in batches(digests):
            rows = select(blobs.c.sha256, blobs.c.size).where(_DAMAGED, blobs.c.sha256.in_(some))
            found.update((row.sha256, row.size) for row in self._connection.execute(rows))
        return found

    def lock(self, sha256: str) -> str | None:
        """What is wrong with a blob, held until the commit."""
        statement = select(blobs.c.damage).where(blobs.c.sha256 == sha256)
        found: str | None = self._connection.scalar(statement.with_for_update(key_share=True))
        return found

    def note(self, sha256: str, damage: str | None, *, at: datetime) -> None:
        """Note what is wrong with a blob that was read, or that nothing is."""
        self._connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(damage=damage, checked_at=at))

    def hit(self, sha256: str) -> dict[AdapterName, list[int]]:
        """Bring versions with a blob in their commits up to what is known of their blobs; those that it changes."""
        worst = (
            select(blobs.c.damage)
            .join(commit_files, commit_files.c.sha256 == blobs.c.sha256)
            .join(commits, commits.c.id == commit_files.c.commit_id)
            .where(commits.c.adapter_id == versions.c.adapter_id, commits.c.number == versions.c.number, _DAMAGED)
            .order_by(blobs.c.sha256)
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            select(versions.c.id, versions.c.number, versions.c.damage, worst.label("worst"))
            .add_columns(namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
            .join(adapters, adapters.c.id == versions.c.adapter_id)
            .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
            .where(_has(sha256))
            .order_by(versions.c.id)
        )
        changed: dict[AdapterName, list[int]] = {}
        for row in self._connection.execute(statement).all():
            if row.damage != row.worst:
                self._connection.execute(update(versions).where(versions.c.id == row.id).values(damage=row.worst))
                changed.setdefault(AdapterName(row.team, row.adapter), []).append(row.number)
        return changed

    # -- scrubbing ----------------------------------------------------------------------------------------------------

    def unread(self, before: datetime) -> tuple[str, int] | None:
        """The blob in use (sha256, bytes) that was read longest ago, before a moment; None if all were read since."""
        statement = select(blobs.c.sha256, blobs.c.size).where(blobs.c.idle_since.is_(None))
        for condition in (blobs.c.checked_at.is_(None), blobs.c.checked_at < before):
            oldest = statement.where(condition).order_by(blobs.c.checked_at).limit(1)
            if row := self._connection.execute(oldest).first():
                return row.sha256, row.size
        return None

    def take(self, sha256: str, *, before: datetime, at: datetime) -> bool:
        """Take it on to read a blob; False if somebody else has."""
        due = (blobs.c.sha256 == sha256) & (blobs.c.checked_at.is_(None) | (blobs.c.checked_at < before))
        return self._connection.execute(update(blobs).where(due).values(checked_at=at)).rowcount == 1


def _has(sha256: str) -> ColumnElement[bool]:
    mine: Any = (commits.c.adapter_id == versions.c.adapter_id) & (commits.c.number == versions.c.number)
    return exists().where(commit_files.c.sha256 == sha256, commits.c.id == commit_files.c.commit_id, mine)
