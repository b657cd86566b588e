"""Principals, their roles in namespaces, and their tokens."""

from datetime import datetime

from sqlalchemy import JSON, Boolean, ForeignKey, false
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Key, Row, RowId, UtcDateTime, table


class PrincipalRow(Row):
    """Somebody who acts. Other tables hold an actor's name as it was, so that history outlives the principal.

    An operator has every right in every team.
    """

    __tablename__ = "principals"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Key, unique=True)
    operator: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MembershipRow(Row):
    """The role of a principal in a namespace: owner | …"""

    __tablename__ = "memberships"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True)
    principal_id: Mapped[int] = mapped_column(ForeignKey("principals.id"), primary_key=True, index=True)
    role: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class TokenRow(Row):
    """A bearer token: the sha256 of it, never itself. `teams` None: wherever the principal has rights."""

    __tablename__ = "tokens"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    principal_id: Mapped[int] = mapped_column(ForeignKey("principals.id"), index=True)
    name: Mapped[str]
    sha256: Mapped[str] = mapped_column(Digest, unique=True)
    scopes: Mapped[list[str]] = mapped_column(JSON)
    teams: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


principals = table(PrincipalRow)
memberships = table(MembershipRow)
tokens = table(TokenRow)
