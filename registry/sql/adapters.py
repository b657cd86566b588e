"""Adapter lines: finding, creating and locking `team/name`."""

import builtins
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, select, update
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import AdapterNotFound, NameTaken
from registry.domain.records import Adapter, Page
from registry.domain.reference import AdapterName
from registry.domain.rights import Readable
from registry.sql.founding import note_founded
from registry.sql.inserts import insert_absent
from registry.sql.readable import PRIVATE, namespaces_of
from registry.sql.tables.aliases import aliases
from registry.sql.tables.commits import commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.principals import memberships, principals

_OWNER = "owner"


class Adapters:
    """Queries on adapter lines."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, name: AdapterName) -> Adapter | None:
        """The adapter of that name, whatever its case, in its stored spelling."""
        row = self._connection.execute(_adapters().where(adapters.c.name_key == name.key)).mappings().first()
        return None if row is None else self._records([row])[0]

    def named(self, names: Iterable[AdapterName]) -> dict[AdapterName, Adapter]:
        """The adapters of these names, in their stored spelling."""
        statement = _adapters().where(adapters.c.name_key.in_([name.key for name in names]))
        found = self._records(self._connection.execute(statement).mappings().all())
        return {adapter.name: adapter for adapter in found}

    def ensure(self, name: AdapterName, *, actor: str, at: datetime) -> AdapterName:
        """Create what is missing of principal, namespace and adapter, and lock the adapter until the commit.

        The actor owns a namespace that it creates. A deleted adapter is there again; its numbers go on. Raises
        NameTaken if team or name exist in another case.
        """
        self.ensure_principal(actor, at=at)
        namespace_id = self.ensure_namespace(name.team, actor=actor, at=at)
        stored = self._locked(name)
        if stored is None:
            self._insert(name, namespace_id, actor=actor, at=at)
            stored = self._locked(name)
        if stored != name:
            raise NameTaken(str(name), f"it exists as {stored}")
        deleted = (adapters.c.name_key == name.key) & adapters.c.deleted_at.is_not(None)
        self._connection.execute(update(adapters).where(deleted).values(deleted_at=None))
        return stored

    def ensure_namespace(self, team: str, *, actor: str, at: datetime, visibility: str = PRIVATE) -> int:
        """The id of a namespace, created (with its owner and its event) if it is new. Raises NameTaken."""
        found = self._namespace(team)
        if found is not None:
            return found
        self.ensure_principal(actor, at=at)
        row = {"name": team, "name_key": team.lower(), "visibility": visibility, "actor": actor, "created_at": at}
        created = insert_absent(self._connection, namespaces, [row])
        namespace_id = self._namespace(team)
        assert namespace_id is not None
        if created:
            self._own(namespace_id, actor, at)
            note_founded(self._connection, team, actor)
        return namespace_id

    def ensure_principal(self, actor: str, *, at: datetime) -> None:
        """Make sure that an actor is a principal."""
        if self._principal(actor) is None:
            row = {"name": actor, "name_key": actor.lower(), "created_at": at}
            insert_absent(self._connection, principals, [row])

    def lock(self, name: AdapterName) -> AdapterName:
        """Hold the adapter until the commit: whoever changes anything below it waits. Raises AdapterNotFound."""
        stored = self._locked(name)
        if stored is None:
            raise AdapterNotFound(str(name))
        return stored

    def describe(self, name: AdapterName, *, description: str, metadata: Mapping[str, str], at: datetime) -> None:
        """Say anew what an adapter is. The caller holds its lock."""
        values = {"description": description, "metadata": dict(metadata), "updated_at": at}
        self._connection.execute(update(adapters).where(adapters.c.name_key == name.key).values(values))

    def delete(self, name: AdapterName, *, at: datetime) -> None:
        """Leave a tombstone: the name, its counter and its history stay, main is empty. The caller holds its lock."""
        values = {"deleted_at": at, "updated_at": at, "head": None, "description": None, "metadata": None}
        self._connection.execute(update(adapters).where(adapters.c.name_key == name.key).values(values))

    def list(
        self,
        *,
        team: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
        readable: Readable | None = None,
    ) -> Page[Adapter]:
        """A page of adapters by name, without deleted ones; `readable` leaves out what the caller may not see."""
        statement = _adapters().where(adapters.c.deleted_at.is_(None)).order_by(adapters.c.name_key).limit(limit + 1)
        if team is not None:
            key = team.lower()  # "0" is the character after "/"
            statement = statement.where(adapters.c.name_key >= f"{key}/", adapters.c.name_key < f"{key}0")
        if readable is not None:
            statement = statement.where(adapters.c.namespace_id.in_(namespaces_of(readable)))
        if cursor is not None:
            statement = statement.where(adapters.c.name_key > cursor)
        rows = self._connection.execute(statement).mappings().all()
        page = rows[:limit]
        return Page(tuple(self._records(page)), page[-1]["name_key"] if len(rows) > limit else None)

    def _namespace(self, team: str) -> int | None:
        statement = select(namespaces.c.id, namespaces.c.name).where(namespaces.c.name_key == team.lower())
        row = self._connection.execute(statement).first()
        if row is None:
            return None
        if row.name != team:
            raise NameTaken(team, f"the team exists as {row.name}")
        return int(row.id)

    def _own(self, namespace_id: int, actor: str, at: datetime) -> None:
        row = {
            "namespace_id": namespace_id,
            "principal_id": self._principal(actor),
            "role": _OWNER,
            "actor": actor,
            "created_at": at,
        }
        insert_absent(self._connection, memberships, [row])

    def _principal(self, actor: str) -> int | None:
        return self._connection.scalar(select(principals.c.id).where(principals.c.name_key == actor.lower()))

    def _insert(self, name: AdapterName, namespace_id: int, *, actor: str, at: datetime) -> None:
        row = {
            "namespace_id": namespace_id,
            "name": name.name,
            "name_key": name.key,
            "last_number": 0,
            "actor": actor,
            "created_at": at,
            "updated_at": at,
        }
        insert_absent(self._connection, adapters, [row])

    def _locked(self, name: AdapterName) -> AdapterName | None:
        # NO KEY UPDATE: rows that refer to the adapter can still be inserted by those who don't need its lock.
        statement = _adapters().where(adapters.c.name_key == name.key).with_for_update(key_share=True, of=adapters)
        row = self._connection.execute(statement).first()
        return None if row is None else AdapterName(row.team, row.name)

    def _records(self, rows: Sequence[RowMapping]) -> builtins.list[Adapter]:
        pointed = self._aliases([row["id"] for row in rows])
        return [_record(row, pointed.get(row["id"], {})) for row in rows]

    def _aliases(self, adapter_ids: Sequence[int]) -> dict[int, dict[str, int]]:
        statement = (
            select(aliases.c.adapter_id, aliases.c.name, aliases.c.number)
            .where(aliases.c.adapter_id.in_(adapter_ids), aliases.c.number.is_not(None))
            .order_by(aliases.c.name_key)
        )
        found: dict[int, dict[str, int]] = {}
        for row in self._connection.execute(statement):
            found.setdefault(row.adapter_id, {})[row.name] = row.number
        return found


def _adapters() -> Select[Any]:
    own = (commits.c.adapter_id == adapters.c.id) & (commits.c.hash == adapters.c.head)
    held = select(commits.c.base_fingerprint).where(own).scalar_subquery()
    return select(adapters, namespaces.c.name.label("team"), held.label("holds")).join(
        namespaces, namespaces.c.id == adapters.c.namespace_id
    )


def _record(row: RowMapping, pointed: dict[str, int]) -> Adapter:
    return Adapter(
        name=AdapterName(row["team"], row["name"]),
        head=row["head"],
        latest=row["last_number"] or None,
        versions=row["last_number"],
        aliases=pointed,
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        description=row["description"] or "",
        metadata=row["metadata"] or {},
        deleted_at=row["deleted_at"],
        holds=row["holds"],
    )
