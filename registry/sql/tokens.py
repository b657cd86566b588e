"""Tokens: by the sha256 of what is shown at a door; the secret itself never comes here."""

import builtins
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import Token
from registry.domain.rights import Scope
from registry.sql.tables.principals import principals, tokens


@dataclass(frozen=True, slots=True)
class Holder:
    """A token and the principal behind it."""

    token: Token
    principal_id: int
    operator: bool


class Tokens:
    """Queries on tokens."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, principal_id: int, token: Token, *, sha256: str, actor: str) -> Token:
        """Store a new token; its id is given here."""
        row = {
            "principal_id": principal_id,
            "name": token.name,
            "sha256": sha256,
            "scopes": [scope.value for scope in token.scopes],
            "teams": None if token.teams is None else list(token.teams),
            "actor": actor,
            "created_at": token.created_at,
            "expires_at": token.expires_at,
        }
        result = self._connection.execute(insert(tokens), row)
        assert result.inserted_primary_key is not None
        found = self.find(int(result.inserted_primary_key[0]))
        assert found is not None
        return found

    def holder(self, sha256: str) -> Holder | None:
        """Whose token has this digest, revoked and expired ones too."""
        row = self._connection.execute(_tokens().where(tokens.c.sha256 == sha256)).first()
        return None if row is None else Holder(_record(row), row.principal_id, row.operator)

    def holder_of(self, token_id: int) -> Holder | None:
        """Whose token has this number, revoked and expired ones too."""
        row = self._connection.execute(_tokens().where(tokens.c.id == token_id)).first()
        return None if row is None else Holder(_record(row), row.principal_id, row.operator)

    def find(self, token_id: int) -> Token | None:
        """A token by its number."""
        row = self._connection.execute(_tokens().where(tokens.c.id == token_id)).first()
        return None if row is None else _record(row)

    def list(self, principal: str | None = None) -> builtins.list[Token]:
        """Tokens, newest first: one principal's, or everybody's."""
        statement = _tokens().order_by(tokens.c.id.desc())
        if principal is not None:
            statement = statement.where(principals.c.name_key == principal.lower())
        return [_record(row) for row in self._connection.execute(statement)]

    def revoke(self, token_id: int, *, at: datetime) -> None:
        """Revoke a token; one that is revoked already keeps its time."""
        standing = (tokens.c.id == token_id) & tokens.c.revoked_at.is_(None)
        self._connection.execute(update(tokens).where(standing).values(revoked_at=at))

    def used(self, token_id: int, *, at: datetime) -> None:
        """Note when a token was last used."""
        self._connection.execute(update(tokens).where(tokens.c.id == token_id).values(used_at=at))


def _tokens() -> Select[Any]:
    named = principals.c.name.label("principal")
    return select(tokens, named, principals.c.operator).join(principals, principals.c.id == tokens.c.principal_id)


def _record(row: Any) -> Token:
    return Token(
        id=row.id,
        principal=row.principal,
        name=row.name,
        scopes=tuple(Scope(scope) for scope in row.scopes),
        teams=None if row.teams is None else tuple(row.teams),
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
