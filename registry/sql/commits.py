"""Commits: immutable file trees, and main, which points to the newest."""

import builtins
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import VersionNotFound
from registry.domain.records import Commit, FileEntry
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_all
from registry.sql.rows import adapter_id, adapter_id_of
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions


class Commits:
    """Queries on commits."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, commit: Commit) -> None:
        """Store a commit and its files, and move main to it. The caller holds the adapter's lock.

        A version that it names was added before it. Raises AdapterNotFound, VersionNotFound.
        """
        owner = adapter_id(self._connection, commit.adapter)
        row = {
            "adapter_id": owner,
            "hash": commit.id,
            "parent": commit.parent,
            "author": commit.author,
            "message": commit.message,
            "number": commit.version,
            "base_fingerprint": commit.base,
            "created_at": commit.created_at,
        }
        result = self._connection.execute(insert(commits), row)
        assert result.inserted_primary_key is not None
        commit_id: int = result.inserted_primary_key[0]
        files = [{"commit_id": commit_id, "path": f.path, "sha256": f.sha256, "size": f.size} for f in commit.files]
        insert_all(self._connection, commit_files, files)
        self._move_main(owner, commit_id, commit)

    def find(self, name: AdapterName, commit_id: str) -> Commit | None:
        """The commit with this id (40 hex) and its files."""
        return self._first(_commits(name).where(commits.c.hash == commit_id))

    def head(self, name: AdapterName) -> Commit | None:
        """The commit that main points to."""
        return self._first(_commits(name).where(commits.c.hash == adapters.c.head))

    def list(self, name: AdapterName, *, limit: int = 100) -> builtins.list[Commit]:
        """The newest commits of main with their files, newest first."""
        statement = _commits(name).order_by(commits.c.id.desc()).limit(limit)
        return self._records(self._connection.execute(statement).mappings().all())

    def _move_main(self, owner: int, commit_id: int, commit: Commit) -> None:
        moved = update(adapters).where(adapters.c.id == owner)
        self._connection.execute(moved.values(head=commit.id, updated_at=commit.created_at))
        if commit.version is None:
            return
        held = update(versions).where(versions.c.adapter_id == owner, versions.c.number == commit.version)
        if self._connection.execute(held.values(main_position=commit_id)).rowcount != 1:
            raise VersionNotFound(str(commit.adapter), f"version v{commit.version}")

    def _first(self, statement: Select[Any]) -> Commit | None:
        row = self._connection.execute(statement).mappings().first()
        return None if row is None else self._records([row])[0]

    def _records(self, rows: Sequence[RowMapping]) -> builtins.list[Commit]:
        files = self._files([row["id"] for row in rows])
        return [_record(row, tuple(files.get(row["id"], ()))) for row in rows]

    def _files(self, ids: Sequence[int]) -> dict[int, builtins.list[FileEntry]]:
        statement = select(commit_files).where(commit_files.c.commit_id.in_(ids)).order_by(commit_files.c.path)
        found: dict[int, builtins.list[FileEntry]] = {}
        for row in self._connection.execute(statement):
            found.setdefault(row.commit_id, []).append(FileEntry(row.path, row.sha256, row.size))
        return found


def _commits(name: AdapterName) -> Select[Any]:
    return (
        select(commits, namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
        .join(adapters, adapters.c.id == commits.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .where(commits.c.adapter_id == adapter_id_of(name))
    )


def _record(row: RowMapping, files: tuple[FileEntry, ...]) -> Commit:
    return Commit(
        id=row["hash"],
        adapter=AdapterName(row["team"], row["adapter"]),
        parent=row["parent"],
        author=row["author"],
        message=row["message"],
        created_at=row["created_at"],
        version=row["number"],
        files=files,
        base=row["base_fingerprint"],
    )
