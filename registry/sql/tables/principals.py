"""Principals and their roles in namespaces."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Key, Row, RowId, UtcDateTime, table


class PrincipalRow(Row):
    """Somebody who acts. Other tables hold an actor's name as it was, so that history outlives the principal."""

    __tablename__ = "principals"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Key, unique=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class MembershipRow(Row):
    """The role of a principal in a namespace: owner | …"""

    __tablename__ = "memberships"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True)
    principal_id: Mapped[int] = mapped_column(ForeignKey("principals.id"), primary_key=True, index=True)
    role: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


principals = table(PrincipalRow)
memberships = table(MembershipRow)
