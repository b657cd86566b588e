"""Versions: what a look-up reads."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Digest, Key, Row, RowId, UtcDateTime, table


class VersionRow(Row):
    """A numbered content. Its commit must be there when the transaction ends.

    `main_position` is the id of main's newest commit that holds this content: the greatest one that is active is what
    a bare `team/name` means, found in one index. `damage` says what is wrong with its stored bytes. `base_key` is the
    current base's fingerprint, or its lower-cased name while only that is known. `details` has the parts of the summary
    that nobody searches.
    """

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number"),
        UniqueConstraint("adapter_id", "digest"),
        ForeignKeyConstraint(
            ["adapter_id", "commit"], ["commits.adapter_id", "commits.hash"], deferrable=True, initially="DEFERRED"
        ),
        Index(None, "adapter_id", "status", "main_position"),
        Index(None, "base_key", "id"),
        Index(None, "rank", "id"),
        Index(None, "status", "id"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    number: Mapped[int] = mapped_column(RowId)
    digest: Mapped[str] = mapped_column(Digest)
    commit: Mapped[str] = mapped_column(CommitId)
    main_position: Mapped[int | None] = mapped_column(RowId)
    status: Mapped[str]
    status_reason: Mapped[str | None]
    damage: Mapped[str | None]
    format: Mapped[str]
    peft_type: Mapped[str]
    rank: Mapped[int]
    alpha: Mapped[float]
    dtype: Mapped[str]
    parameters: Mapped[int] = mapped_column(RowId)
    details: Mapped[dict[str, Any]] = mapped_column(JSON)
    base_key: Mapped[str | None] = mapped_column(Key)
    base_name: Mapped[str | None]
    base_fingerprint: Mapped[str | None] = mapped_column(Digest)
    base_evidence: Mapped[str]
    size: Mapped[int] = mapped_column(RowId)
    author: Mapped[str]
    message: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column("metadata", JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


versions = table(VersionRow)
