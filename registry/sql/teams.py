"""Teams: namespaces, who is in them, and what a principal may do where."""

import builtins
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.engine import Connection

from registry.domain.errors import PrincipalNotFound, TeamNotFound
from registry.domain.records import Member, Namespace
from registry.domain.rights import Readable, Role
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_absent
from registry.sql.readable import PUBLIC, namespaces_of
from registry.sql.tables.names import namespaces
from registry.sql.tables.principals import memberships, principals


class Teams:
    """Queries on namespaces, principals and memberships."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, team: str) -> Namespace | None:
        """A team, whatever the case of its name."""
        row = self._connection.execute(select(namespaces).where(namespaces.c.name_key == team.lower())).first()
        return None if row is None else Namespace(row.name, row.visibility, row.created_at)

    def is_public(self, team: str) -> bool:
        """Whether everybody with a token may read a team."""
        found = select(namespaces.c.visibility).where(namespaces.c.name_key == team.lower())
        return self._connection.scalar(found) == PUBLIC

    def list(self, readable: Readable | None = None) -> builtins.list[Namespace]:
        """The teams by name; `readable` leaves out what the caller may not see."""
        statement = select(namespaces).order_by(namespaces.c.name_key)
        if readable is not None:
            statement = statement.where(namespaces.c.id.in_(namespaces_of(readable)))
        return [Namespace(row.name, row.visibility, row.created_at) for row in self._connection.execute(statement)]

    def ensure(self, team: str, *, actor: str, at: datetime, visibility: str) -> Namespace:
        """The team of that name, made if it is new, with the actor as its owner. Raises NameTaken."""
        Adapters(self._connection).ensure_namespace(team, actor=actor, at=at, visibility=visibility)
        found = self.find(team)
        assert found is not None
        return found

    def set_visibility(self, team: str, visibility: str) -> None:
        """Make a team public or private."""
        changed = update(namespaces).where(namespaces.c.name_key == team.lower())
        self._connection.execute(changed.values(visibility=visibility))

    def members(self, team: str) -> builtins.list[Member]:
        """Who is in a team, by name."""
        statement = (
            select(namespaces.c.name.label("team"), principals.c.name, memberships.c.role, memberships.c.created_at)
            .join(namespaces, namespaces.c.id == memberships.c.namespace_id)
            .join(principals, principals.c.id == memberships.c.principal_id)
            .where(namespaces.c.name_key == team.lower())
            .order_by(principals.c.name_key)
        )
        return [Member(r.team, r.name, Role(r.role), r.created_at) for r in self._connection.execute(statement)]

    def set_role(self, team: str, principal: str, role: Role | None, *, actor: str, at: datetime) -> None:
        """Give a principal a role in a team, or take it out of it (None). Raises TeamNotFound, PrincipalNotFound."""
        key = {"namespace_id": self._team_id(team), "principal_id": self._principal_id(principal)}
        held = [memberships.c[name] == value for name, value in key.items()]
        if role is None:
            self._connection.execute(delete(memberships).where(*held))
            return
        row = {**key, "role": role.value, "actor": actor, "created_at": at}
        if not insert_absent(self._connection, memberships, [row]):
            self._connection.execute(update(memberships).where(*held).values(role=role.value, actor=actor))

    def roles(self, principal_id: int) -> Mapping[str, Role]:
        """A principal's roles, by team in lower case."""
        statement = (
            select(namespaces.c.name_key, memberships.c.role)
            .join(namespaces, namespaces.c.id == memberships.c.namespace_id)
            .where(memberships.c.principal_id == principal_id)
        )
        return {row.name_key: Role(row.role) for row in self._connection.execute(statement)}

    def ensure_principal(self, name: str, *, operator: bool, at: datetime) -> int:
        """The id of a principal, made if it is new; `operator` makes it one, and never takes that away."""
        Adapters(self._connection).ensure_principal(name, at=at)
        if operator:
            self._connection.execute(
                update(principals).where(principals.c.name_key == name.lower()).values(operator=True)
            )
        return self._principal_id(name)

    def principal_exists(self, name: str) -> bool:
        """Whether there is a principal of that name, whatever its case."""
        return self._connection.scalar(_principal(name)) is not None

    def _team_id(self, team: str) -> int:
        found = self._connection.scalar(select(namespaces.c.id).where(namespaces.c.name_key == team.lower()))
        if found is None:
            raise TeamNotFound(team)
        return int(found)

    def _principal_id(self, name: str) -> int:
        found = self._connection.scalar(_principal(name))
        if found is None:
            raise PrincipalNotFound(name)
        return int(found)


def _principal(name: str) -> Any:
    return select(principals.c.id).where(principals.c.name_key == name.lower())
