"""Xorbs that clients sent, and where their chunks are by now."""

from datetime import datetime

from sqlalchemy import ForeignKey, LargeBinary, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Key, Row, RowId, UtcDateTime, table


class XorbCacheRow(Row):
    """What a team's clients know of its xorbs is right in this `epoch`; in a new one they begin anew."""

    __tablename__ = "xorb_caches"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True, autoincrement=False)
    epoch: Mapped[str]


class XorbRow(Row):
    """A xorb of a team. `ends` are the ends of its chunks in plain bytes, four bytes each, little endian.

    Its plain bytes (`size`) wait in the staging area as `staged`, until spans have all its chunks.
    """

    __tablename__ = "xorbs"
    __table_args__ = (UniqueConstraint("namespace_id", "name"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"))
    name: Mapped[str] = mapped_column(Digest)
    ends: Mapped[bytes] = mapped_column(LargeBinary)
    size: Mapped[int] = mapped_column(RowId)
    staged: Mapped[str | None] = mapped_column(Key)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class XorbSpanRow(Row):
    """Chunks of a xorb, from `first` to before `end`, which are bytes of a blob from `start` on."""

    __tablename__ = "xorb_spans"

    xorb_id: Mapped[int] = mapped_column(ForeignKey("xorbs.id"), primary_key=True, autoincrement=False)
    first: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    end: Mapped[int] = mapped_column(RowId)
    sha256: Mapped[str] = mapped_column(Digest, ForeignKey("blobs.sha256"), index=True)
    start: Mapped[int] = mapped_column(RowId)


xorb_caches = table(XorbCacheRow)
xorbs = table(XorbRow)
xorb_spans = table(XorbSpanRow)
