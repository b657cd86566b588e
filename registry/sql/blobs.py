"""Blobs as the catalog knows them: sizes, and which namespace brought the bytes."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from sqlalchemy import exists, or_, select
from sqlalchemy.engine import Connection

from registry.domain.records import LOCAL_OWNER, Version
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_absent
from registry.sql.rows import version_record, version_rows
from registry.sql.tables.blobs import blob_possessions, blobs
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.evaluations import evaluations
from registry.sql.tables.names import namespaces
from registry.sql.tables.versions import versions

BATCH = 1000  # rows fetched at once, and digests in one IN


class Blobs:
    """Queries on blobs."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def register(self, team: str, found: Iterable[tuple[str, int]], *, at: datetime, actor: str = LOCAL_OWNER) -> None:
        """Record blobs (sha256, bytes) and that a namespace has them; what is known already stays.

        Lock the adapter first where both are needed. Raises NameTaken if the team exists in another case.
        """
        namespace_id = Adapters(self._connection).ensure_namespace(team, actor=actor, at=at)
        sizes = sorted(dict(found).items())  # sorted: see insert_absent
        rows = [{"sha256": sha256, "size": size, "created_at": at} for sha256, size in sizes]
        insert_absent(self._connection, blobs, rows)
        owned = [
            {"namespace_id": namespace_id, "sha256": sha256, "actor": actor, "created_at": at} for sha256, _ in sizes
        ]
        insert_absent(self._connection, blob_possessions, owned)

    def possessed(self, team: str, digests: Iterable[str]) -> set[str]:
        """Those of the digests that a namespace has."""
        found: set[str] = set()
        wanted = list(digests)
        for start in range(0, len(wanted), BATCH):
            some = wanted[start : start + BATCH]
            statement = (
                select(blob_possessions.c.sha256)
                .join(namespaces, namespaces.c.id == blob_possessions.c.namespace_id)
                .where(namespaces.c.name_key == team.lower(), blob_possessions.c.sha256.in_(some))
            )
            found.update(self._connection.scalars(statement))
        return found

    def all(self) -> Iterator[tuple[str, int]]:
        """Every blob (sha256, bytes) that a commit or an evaluation refers to, in digest order, as a stream."""
        used = or_(
            exists().where(commit_files.c.sha256 == blobs.c.sha256),
            exists().where(evaluations.c.examples_sha256 == blobs.c.sha256),
        )
        statement = select(blobs.c.sha256, blobs.c.size).where(used).order_by(blobs.c.sha256).limit(BATCH)
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
