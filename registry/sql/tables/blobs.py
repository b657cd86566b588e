"""Blobs, and the namespaces that brought them."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Row, RowId, UtcDateTime, table


class BlobRow(Row):
    """Bytes that the store holds; `size` in bytes.

    Nothing refers to them, as far as was seen, since `idle_since`; None: something does, and they are there. Since
    `removed_at` they are gone, and purged commits alone name them. They were last read and hashed at `checked_at`;
    `damage` says what was wrong then.
    """

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    size: Mapped[int] = mapped_column(RowId)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    idle_since: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    removed_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    checked_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    damage: Mapped[str | None]


class BlobPossessionRow(Row):
    """A namespace that brought the bytes of a blob, and so may refer to it."""

    __tablename__ = "blob_possessions"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest, ForeignKey("blobs.sha256"), primary_key=True, index=True)
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


blobs = table(BlobRow)
blob_possessions = table(BlobPossessionRow)
