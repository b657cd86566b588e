"""How much a team may keep."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Row, RowId, UtcDateTime, table


class QuotaRow(Row):
    """Limits of a team; None is no limit. The row is the lock of whoever adds to what is limited.

    `kept` is how many bytes the team has: counted when the quota is set, and kept up by those who add.
    """

    __tablename__ = "quotas"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True, autoincrement=False)
    bytes: Mapped[int | None] = mapped_column(RowId)
    versions: Mapped[int | None] = mapped_column(RowId)
    adapters: Mapped[int | None] = mapped_column(RowId)
    uploads: Mapped[int | None] = mapped_column(RowId)
    kept: Mapped[int] = mapped_column(RowId)
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


quotas = table(QuotaRow)
