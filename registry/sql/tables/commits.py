"""Commits and their files."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Digest, Key, Row, RowId, UtcDateTime, table


class CommitRow(Row):
    """An immutable file tree. The commits of an adapter in `id` order are the history of main.

    `number` is the version whose content it holds, if it holds an adapter; `base_fingerprint` is the base model that
    it holds instead.
    """

    __tablename__ = "commits"
    __table_args__ = (UniqueConstraint("adapter_id", "hash"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    hash: Mapped[str] = mapped_column(CommitId)
    parent: Mapped[str | None] = mapped_column(CommitId)
    author: Mapped[str]
    message: Mapped[str]
    number: Mapped[int | None] = mapped_column(RowId)
    base_fingerprint: Mapped[str | None] = mapped_column(Digest, index=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class CommitFileRow(Row):
    """A path of a commit and the blob it holds. The blob may be registered later in the same transaction."""

    __tablename__ = "commit_files"

    commit_id: Mapped[int] = mapped_column(ForeignKey("commits.id"), primary_key=True)
    path: Mapped[str] = mapped_column(Key, primary_key=True)
    sha256: Mapped[str] = mapped_column(
        Digest, ForeignKey("blobs.sha256", deferrable=True, initially="DEFERRED"), index=True
    )
    size: Mapped[int] = mapped_column(RowId)


commits = table(CommitRow)
commit_files = table(CommitFileRow)
