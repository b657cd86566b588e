"""Blobs that nothing refers to: finding, holding and forgetting them, as `registry.service.collecting` says."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.engine import Connection

from registry.domain.reference import AdapterName
from registry.sql.batches import BATCH, batches
from registry.sql.inserts import insert_absent
from registry.sql.roots import held_beside, is_referenced
from registry.sql.rows import adapter_id_of
from registry.sql.tables.blobs import blob_possessions, blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.evaluations import evaluations
from registry.sql.tables.names import namespaces
from registry.sql.tables.uploads import uploads
from registry.sql.tables.versions import versions

_STANDS = blobs.c.removed_at.is_(None)


class Collection:
    """Queries on what may be collected."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # -- what nothing refers to ---------------------------------------------------------------------------------------

    def unreferenced(self, after: str) -> tuple[dict[str, int], str | None]:
        """Blobs that nothing refers to and that nobody noted so yet (sha256 -> bytes), among those after a digest.

        Looks at some, and returns where to go on; None at the end.
        """
        some = select(blobs.c.sha256).where(blobs.c.sha256 > after).order_by(blobs.c.sha256).limit(BATCH)
        last = self._connection.scalar(select(func.max(some.subquery().c.sha256)))
        if last is None:
            return {}, None
        found = select(blobs.c.sha256, blobs.c.size).where(blobs.c.sha256 > after, blobs.c.sha256 <= last)
        rows = self._connection.execute(found.where(_STANDS, blobs.c.idle_since.is_(None), ~is_referenced()))
        return {row.sha256: row.size for row in rows}, str(last)

    def note_idle(self, digests: Iterable[str], *, at: datetime) -> None:
        """Note that nothing refers to blobs, if that is still so."""
        for some in batches(digests):
            idle = update(blobs).where(blobs.c.sha256.in_(some), blobs.c.idle_since.is_(None), ~is_referenced())
            self._connection.execute(idle.values(idle_since=at))

    def due(self, before: datetime, *, after: str, limit: int) -> dict[str, int]:
        """Some of the blobs that were idle before a moment (sha256 -> bytes), in order, those after a digest."""
        statement = select(blobs.c.sha256, blobs.c.size).where(_is_due(before), blobs.c.sha256 > after)
        rows = self._connection.execute(statement.order_by(blobs.c.sha256).limit(limit))
        return {row.sha256: row.size for row in rows}

    def waiting(self, before: datetime) -> tuple[int, int]:
        """How many blobs are idle, but not since before a moment; and their bytes."""
        statement = select(func.count(), func.sum(blobs.c.size)).where(_STANDS, blobs.c.idle_since > before)
        count, size = self._connection.execute(statement).one()
        return int(count), int(size or 0)

    # -- the end of a blob --------------------------------------------------------------------------------------------

    def lock_due(self, digests: Iterable[str], before: datetime) -> dict[str, int]:
        """Those of the digests that are idle since before a moment, held until the commit.

        Not those that somebody else holds: whoever is about to refer to a blob isn't waited for.
        """
        return self._lock(digests, _is_due(before))

    def lock(self, digests: Iterable[str]) -> dict[str, int]:
        """The same, whether idle or not."""
        return self._lock(digests, _STANDS)

    def _lock(self, digests: Iterable[str], condition: ColumnElement[bool]) -> dict[str, int]:
        found: dict[str, int] = {}
        for some in batches(digests):
            statement = select(blobs.c.sha256, blobs.c.size).where(blobs.c.sha256.in_(some), condition)
            locked = statement.order_by(blobs.c.sha256).with_for_update(skip_locked=True)
            found.update((row.sha256, row.size) for row in self._connection.execute(locked))
        return found

    def referenced(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests that something refers to, in a commit from before this statement."""
        found: set[str] = set()
        for some in batches(digests):
            found.update(
                self._connection.scalars(select(blobs.c.sha256).where(blobs.c.sha256.in_(some), is_referenced()))
            )
        return found

    def possessed(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests that some namespace has."""
        found: set[str] = set()
        for some in batches(digests):
            owned = select(blob_possessions.c.sha256).where(blob_possessions.c.sha256.in_(some)).distinct()
            found.update(self._connection.scalars(owned))
        return found

    def settle(self, digests: Iterable[str]) -> None:
        """Note that something refers to blobs: they were thought idle while it was about to. The caller holds them."""
        for some in batches(digests):
            self._connection.execute(update(blobs).where(blobs.c.sha256.in_(some)).values(idle_since=None))

    def remove(self, digests: Iterable[str], *, at: datetime) -> None:
        """Forget blobs whose bytes are gone; of what purged commits name, a line stays. The caller holds them."""
        for some in batches(digests):
            self._connection.execute(delete(blob_possessions).where(blob_possessions.c.sha256.in_(some)))
            named = exists().where(commit_files.c.sha256 == blobs.c.sha256)
            self._connection.execute(delete(blobs).where(blobs.c.sha256.in_(some), ~named))
            gone = {"removed_at": at, "idle_since": at, "damage": None, "checked_at": None}
            self._connection.execute(update(blobs).where(blobs.c.sha256.in_(some)).values(gone))

    # -- what the store has -------------------------------------------------------------------------------------------

    def unknown(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests that the catalog doesn't have, or has as removed."""
        wanted = set(digests)
        known: set[str] = set()
        for some in batches(wanted):
            known.update(self._connection.scalars(select(blobs.c.sha256).where(blobs.c.sha256.in_(some), _STANDS)))
        return wanted - known

    def adopt(self, sha256: str, size: int, *, at: datetime) -> None:
        """Record a blob that the store has and nobody knows, as idle since a moment."""
        row = {"sha256": sha256, "size": size, "created_at": at, "idle_since": at}
        if not insert_absent(self._connection, blobs, [row]):
            back = update(blobs).where(blobs.c.sha256 == sha256, blobs.c.removed_at.is_not(None))
            self._connection.execute(back.values(idle_since=at, removed_at=None))

    # -- purging ------------------------------------------------------------------------------------------------------

    def contents(self, name: AdapterName, number: int | None = None) -> set[str]:
        """The digests of every file of an adapter's commits, or of those of one version, and of its evaluations."""
        files = (
            select(commit_files.c.sha256)
            .join(commits, commits.c.id == commit_files.c.commit_id)
            .where(commits.c.adapter_id == adapter_id_of(name))
        )
        results = (
            select(evaluations.c.examples_sha256)
            .join(versions, versions.c.id == evaluations.c.version_id)
            .where(versions.c.adapter_id == adapter_id_of(name), evaluations.c.examples_sha256.is_not(None))
        )
        if number is not None:
            files, results = files.where(commits.c.number == number), results.where(versions.c.number == number)
        return {*self._connection.scalars(files), *self._connection.scalars(results)}

    def forfeit(self, name: AdapterName, digests: Iterable[str]) -> set[str]:
        """Take an adapter's blobs from its namespace, but for those that it holds beside that; which are taken."""
        team = select(namespaces.c.id).where(namespaces.c.name_key == name.team.lower())
        namespace_id = self._connection.scalar(team)
        taken: set[str] = set()
        for some in batches(digests):
            mine = (blob_possessions.c.namespace_id == namespace_id) & blob_possessions.c.sha256.in_(some)
            kept = set(
                self._connection.scalars(
                    select(blob_possessions.c.sha256).where(mine, held_beside(namespace_id, adapter_id_of(name)))
                )
            )
            taken |= set(some) - kept
            self._connection.execute(
                delete(blob_possessions).where(mine, blob_possessions.c.sha256.not_in(sorted(kept)))
            )
        return taken

    def forget_uploads(self, team: str, digests: Iterable[str]) -> list[str]:
        """Forget a namespace's uploads of contents; returns their ids."""
        namespace_id = select(namespaces.c.id).where(namespaces.c.name_key == team.lower()).scalar_subquery()
        ids: list[str] = []
        for some in batches(digests):
            mine = (uploads.c.namespace_id == namespace_id) & uploads.c.sha256.in_(some)
            ids += self._connection.scalars(delete(uploads).where(mine).returning(uploads.c.id))
        return ids


def _is_due(before: datetime) -> ColumnElement[bool]:
    return _STANDS & (blobs.c.idle_since <= before)
