"""Gates before aliases, and who approved which version."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Key, Row, RowId, UtcDateTime, table


class GateRow(Row):
    """What a version must show before an alias may point at it. The alias need not exist yet."""

    __tablename__ = "gates"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    alias_key: Mapped[str] = mapped_column(Key, primary_key=True)
    alias: Mapped[str]
    requirements: Mapped[list[dict[str, Any]]] = mapped_column(JSON)
    approvals: Mapped[int]
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class ApprovalRow(Row):
    """A principal's word for a version."""

    __tablename__ = "approvals"
    __table_args__ = (ForeignKeyConstraint(["adapter_id", "number"], ["versions.adapter_id", "versions.number"]),)

    adapter_id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    alias_key: Mapped[str] = mapped_column(Key, primary_key=True)
    principal_key: Mapped[str] = mapped_column(Key, primary_key=True)
    principal: Mapped[str]
    comment: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


gates = table(GateRow)
approvals = table(ApprovalRow)
