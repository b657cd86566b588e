"""Aliases: the register."""

from datetime import datetime

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Key, Row, RowId, UtcDateTime, table


class AliasRow(Row):
    """A compare-and-set register. `number` is None before the first move and after a delete; `seq` only grows."""

    __tablename__ = "aliases"
    __table_args__ = (
        UniqueConstraint("adapter_id", "name_key"),
        ForeignKeyConstraint(["adapter_id", "number"], ["versions.adapter_id", "versions.number"]),
        Index(None, "adapter_id", "number"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    name: Mapped[str]
    name_key: Mapped[str] = mapped_column(Key)
    number: Mapped[int | None] = mapped_column(RowId)
    seq: Mapped[int] = mapped_column(RowId)
    actor: Mapped[str]
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


aliases = table(AliasRow)
