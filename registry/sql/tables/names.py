"""Namespaces and adapters."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Key, Row, RowId, UtcDateTime, table


class NamespaceRow(Row):
    """A team. `name` keeps its case, `name_key` is unique without it."""

    __tablename__ = "namespaces"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Key, unique=True)
    visibility: Mapped[str] = mapped_column(default="private")
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class AdapterRow(Row):
    """An adapter line. `name_key` is the whole `team/name`, lower-cased; its row is the lock of everything below it.

    `head` is main's commit, `last_number` the counter of versions: it only grows, over a deletion (`deleted_at`) too.
    """

    __tablename__ = "adapters"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), index=True)
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Key, unique=True)
    description: Mapped[str | None]
    labels: Mapped[dict[str, str] | None] = mapped_column("metadata", JSON(none_as_null=True))
    head: Mapped[str | None] = mapped_column(CommitId)
    last_number: Mapped[int] = mapped_column(RowId, default=0)
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)
    deleted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


namespaces = table(NamespaceRow)
adapters = table(AdapterRow)
