"""An alias's rollback stack and its history."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Row, RowId, UtcDateTime, table


class AliasStackRow(Row):
    """A version number on the rollback stack; the greatest position is the current target."""

    __tablename__ = "alias_stack"

    alias_id: Mapped[int] = mapped_column(ForeignKey("aliases.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(RowId)


class AliasMoveRow(Row):
    """One move; append-only."""

    __tablename__ = "alias_moves"
    __table_args__ = (UniqueConstraint("alias_id", "seq"), Index(None, "adapter_id", "id"))

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    alias_id: Mapped[int] = mapped_column(ForeignKey("aliases.id"))
    seq: Mapped[int] = mapped_column(RowId)
    kind: Mapped[str]
    before: Mapped[int | None] = mapped_column(RowId)
    after: Mapped[int | None] = mapped_column(RowId)
    actor: Mapped[str]
    reason: Mapped[str | None]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


alias_stack = table(AliasStackRow)
alias_moves = table(AliasMoveRow)
