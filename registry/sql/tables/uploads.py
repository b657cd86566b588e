"""Uploads in flight, and the answers that a repeated request gets again."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Key, Row, RowId, UtcDateTime, table


class UploadRow(Row):
    """Bytes on their way in. `multipart` is the blob store's name of it; done when `completed_at` is set.

    Somebody verifies it until `verifying_until`, has read `verified` bytes, and says in `failure` what was wrong.
    """

    __tablename__ = "uploads"

    id: Mapped[str] = mapped_column(Key, primary_key=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), index=True)
    sha256: Mapped[str] = mapped_column(Digest)
    size: Mapped[int] = mapped_column(RowId)
    part_size: Mapped[int] = mapped_column(RowId)
    multipart: Mapped[str | None]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    completed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    verifying_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    verified: Mapped[int | None] = mapped_column(RowId)
    failure: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))


class AnsweredRequestRow(Row):
    """The answer to a request that named itself (Idempotency-Key); `request` is a sha256 over what was asked."""

    __tablename__ = "answered_requests"

    principal: Mapped[str] = mapped_column(Key, primary_key=True)
    key: Mapped[str] = mapped_column(Key, primary_key=True)
    request: Mapped[str] = mapped_column(Digest)
    answer: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


uploads = table(UploadRow)
answered_requests = table(AnsweredRequestRow)
