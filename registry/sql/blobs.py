"""Blobs as the catalog knows them: sizes, and which namespace brought the bytes."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, exists, or_, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import LOCAL_OWNER, Version
from registry.sql.adapters import Adapters
from registry.sql.batches import batches
from registry.sql.inserts import insert_absent
from registry.sql.roots import is_referenced
from registry.sql.rows import version_record, version_rows
from registry.sql.tables.blobs import blob_possessions, blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.evaluations import evaluations
from registry.sql.tables.names import namespaces
from registry.sql.tables.versions import versions

BATCH = 1000  # rows fetched at once


class Blobs:
    """Queries on blobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, team: str, found: Iterable[tuple[str, int]], *, at: datetime, actor: str = LOCAL_OWNER) -> None:
        """Record blobs (sha256, bytes) and that a namespace has them; what is known already stays.

        Nothing refers to a new one yet, nor to one that nothing referred to before: from `at` on it may be collected
        after the grace. Lock the adapter first where both are needed. Raises NameTaken if the team exists in another
        case.
        """
        namespace_id = Adapters(self._connection).ensure_namespace(team, actor=actor, at=at)
        sizes = dict(sorted(dict(found).items()))  # sorted: see insert_absent
        self._add(sizes, at)
        self.lease(sizes, at=at)
        owned = [{"namespace_id": namespace_id, "sha256": sha256, "actor": actor, "created_at": at} for sha256 in sizes]
        insert_absent(self._connection, blob_possessions, owned)

    def _add(self, sizes: Mapping[str, int], at: datetime) -> None:
        """Let there be rows, and let nobody remove them until the commit."""
        missing = set(sizes)
        while missing:  # again, if a collector removed some between the two statements
            rows = [
                {"sha256": sha256, "size": size, "created_at": at, "idle_since": at}
                for sha256, size in sizes.items()
                if sha256 in missing
            ]
            insert_absent(self._connection, blobs, rows)
            missing -= self._keep(select(blobs.c.sha256), missing)

    def _keep(self, statement: Select[Any], digests: Iterable[str]) -> set[str]:
        """Those of the digests that a statement selects rows of; nobody removes them until the commit."""
        found: set[str] = set()
        for some in batches(digests):
            kept = statement.where(blobs.c.sha256.in_(some)).order_by(blobs.c.sha256)
            found.update(self._connection.scalars(kept.with_for_update(read=True, key_share=True, of=blobs)))
        return found

    def lease(self, digests: Iterable[str], *, at: datetime) -> None:
        """Let what nothing refers to stay for the grace from now."""
        self._change(digests, {"idle_since": at, "removed_at": None})

    def hold(self, team: str, digests: Iterable[str]) -> dict[str, bool]:
        """Those of the digests that a namespace has undamaged, for whoever is to refer to them, and which are idle.

        Nobody removes them until the commit. Of an idle one nobody knows whether its bytes are there: look, and then
        `refer`.
        """
        mine = (
            select(blobs.c.sha256)
            .join(blob_possessions, blob_possessions.c.sha256 == blobs.c.sha256)
            .join(namespaces, namespaces.c.id == blob_possessions.c.namespace_id)
            .where(namespaces.c.name_key == team.lower(), blobs.c.damage.is_(None))
        )
        held = self._keep(mine, digests)
        idle = self.idle(held)
        return {sha256: sha256 in idle for sha256 in held}

    def refer(self, digests: Iterable[str]) -> None:
        """Note that something refers to blobs whose bytes are there. The caller holds them."""
        self._change(digests, {"idle_since": None, "removed_at": None})

    def idle(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests that nothing refers to, as far as was seen."""
        found: set[str] = set()
        for some in batches(digests):
            statement = select(blobs.c.sha256).where(blobs.c.sha256.in_(some), blobs.c.idle_since.is_not(None))
            found.update(self._connection.scalars(statement))
        return found

    def _change(self, digests: Iterable[str], values: Mapping[str, Any]) -> None:
        """Change rows that are idle, in order: two that change the same wait for each other in one direction."""
        for some in batches(digests):
            idle = (blobs.c.sha256.in_(some)) & blobs.c.idle_since.is_not(None)
            locked = select(blobs.c.sha256).where(idle).order_by(blobs.c.sha256).with_for_update(key_share=True)
            if found := list(self._connection.scalars(locked)):
                self._connection.execute(update(blobs).where(blobs.c.sha256.in_(found)).values(values))

    def possessed(self, team: str, digests: Iterable[str]) -> set[str]:
        """Those of the digests that a namespace has, but for what is removed or damaged: it must come again."""
        found: set[str] = set()
        for some in batches(digests):
            statement = (
                select(blob_possessions.c.sha256)
                .join(namespaces, namespaces.c.id == blob_possessions.c.namespace_id)
                .join(blobs, blobs.c.sha256 == blob_possessions.c.sha256)
                .where(namespaces.c.name_key == team.lower(), blob_possessions.c.sha256.in_(some))
                .where(blobs.c.removed_at.is_(None), blobs.c.damage.is_(None))
            )
            found.update(self._connection.scalars(statement))
        return found

    def all(self) -> Iterator[tuple[str, int]]:
        """Every blob (sha256, bytes) that a commit or an evaluation refers to, in digest order, as a stream."""
        statement = select(blobs.c.sha256, blobs.c.size).where(is_referenced()).order_by(blobs.c.sha256).limit(BATCH)
        last = ""
        while rows := self._connection.execute(statement.where(blobs.c.sha256 > last)).all():
            for row in rows:
                yield row.sha256, row.size
            last = rows[-1].sha256

    def users(self, sha256: str) -> list[Version]:
        """The versions with a commit or an evaluation that refers to a blob, oldest first, without files."""
        hit = (
            select(commits.c.id)
            .join(commit_files, commit_files.c.commit_id == commits.c.id)
            .where(commits.c.adapter_id == versions.c.adapter_id, commits.c.number == versions.c.number)
            .where(commit_files.c.sha256 == sha256)
        )
        measured = exists().where(evaluations.c.version_id == versions.c.id, evaluations.c.examples_sha256 == sha256)
        statement = version_rows().where(or_(exists(hit), measured)).order_by(versions.c.id)
        return [version_record(row) for row in self._connection.execute(statement).mappings()]
