"""Tags: notes on commits."""

from datetime import datetime

from sqlalchemy import ForeignKeyConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Key, Row, RowId, UtcDateTime, table


class TagRow(Row):
    """A name that somebody gave to a commit. It never moves."""

    __tablename__ = "tags"
    __table_args__ = (ForeignKeyConstraint(["adapter_id", "commit"], ["commits.adapter_id", "commits.hash"]),)

    adapter_id: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    name_key: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    commit: Mapped[str] = mapped_column(CommitId)
    message: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


tags = table(TagRow)
