"""Blobs, and the namespaces that brought them."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Row, RowId, UtcDateTime, table


class BlobRow(Row):
    """Bytes that the store holds; `size` in bytes."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    size: Mapped[int] = mapped_column(RowId)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class BlobPossessionRow(Row):
    """A namespace that brought the bytes of a blob, and so may refer to it."""

    __tablename__ = "blob_possessions"

    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest, ForeignKey("blobs.sha256"), primary_key=True, index=True)
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


blobs = table(BlobRow)
blob_possessions = table(BlobPossessionRow)
