"""Commits: immutable file trees, and main, which points to the newest."""

import builtins
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ScalarSelect, Select, exists, func, insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import VersionNotFound
from registry.domain.records import Commit, FileEntry, Page
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_all
from registry.sql.rows import adapter_id, adapter_id_of
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions
from registry.sql.versions import number_of


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

    def child(self, name: AdapterName, parent: str) -> Commit | None:
        """The commit that was made to another one."""
        return self._first(_commits(name).where(commits.c.parent == parent))

    def list(self, name: AdapterName, *, limit: int = 100) -> builtins.list[Commit]:
        """The newest commits of main with their files, newest first."""
        statement = _commits(name).order_by(commits.c.id.desc()).limit(limit)
        return self._records(self._connection.execute(statement).mappings().all())

    def page(self, newest: Commit, *, cursor: str | None = None, limit: int = 100) -> Page[Commit]:
        """The commits from one back to the first of its line, newest first, without their files.

        Raises WrongUsage for a cursor that isn't one of this listing.
        """
        owner = adapter_id_of(newest.adapter)
        start = _position(newest) if cursor is None else number_of(cursor)
        statement = _commits(newest.adapter).where(commits.c.id <= start, commits.c.id >= _root(owner))
        rows = self._connection.execute(statement.order_by(commits.c.id.desc()).limit(limit + 1)).mappings().all()
        following = str(rows[limit]["id"]) if len(rows) > limit else None
        return Page(tuple(_record(row, ()) for row in rows[:limit]), following)

    def is_of_present_line(self, commit: Commit) -> bool:
        """Whether a commit is younger than the last deletion of its adapter."""
        position = self._connection.scalar(select(_position(commit) >= _root(adapter_id_of(commit.adapter))))
        return bool(position)

    def last_change(self, commit: Commit, path: str) -> Commit:
        """The commit, without its files, since which a file of a commit is what it is there."""
        sha256 = next(file.sha256 for file in commit.files if file.path == path)
        line = _commits(commit.adapter).where(commits.c.id <= _position(commit))
        same = exists().where(
            commit_files.c.commit_id == commits.c.id, commit_files.c.path == path, commit_files.c.sha256 == sha256
        )
        other = line.where(~same).with_only_columns(func.max(commits.c.id)).scalar_subquery()
        first = line.where(commits.c.id > func.coalesce(other, 0)).order_by(commits.c.id).limit(1)
        return _record(self._connection.execute(first).mappings().one(), ())

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


def _position(commit: Commit) -> ScalarSelect[int]:
    own = commits.c.adapter_id == adapter_id_of(commit.adapter)
    return select(commits.c.id).where(own, commits.c.hash == commit.id).scalar_subquery()


def _root(owner: ScalarSelect[int]) -> ScalarSelect[int]:
    """The first commit since an adapter was begun, or begun anew after a deletion."""
    first = (commits.c.adapter_id == owner) & commits.c.parent.is_(None)
    return select(func.max(commits.c.id)).where(first).scalar_subquery()


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
