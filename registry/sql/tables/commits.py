"""Commits, their files, and the blobs that files are made of."""

from datetime import datetime

from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Digest, Key, Row, RowId, UtcDateTime, table


class CommitRow(Row):
    """An immutable file tree. The commits of an adapter in `id` order are the history of main.

    `number` is the version whose content it holds, if it holds an adapter.
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


commits = table(CommitRow)
commit_files = table(CommitFileRow)
blobs = table(BlobRow)
blob_possessions = table(BlobPossessionRow)
