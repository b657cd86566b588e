"""What hangs on a version and look-ups don't read: modules, what it is searched by, the history of its base."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CompressedJson, Digest, Key, Row, RowId, UtcDateTime, table


class VersionModuleRow(Row):
    """The per-module specification of a version: large, and read by composition alone."""

    __tablename__ = "version_modules"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    modules: Mapped[list[Any]] = mapped_column(CompressedJson)


class VersionTargetRow(Row):
    """A target module's last component, to search by."""

    __tablename__ = "version_targets"

    target: Mapped[str] = mapped_column(Key, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True, index=True)


class VersionWordRow(Row):
    """A lower-cased word of a version's name, message or metadata, to search by."""

    __tablename__ = "version_words"

    word: Mapped[str] = mapped_column(Key, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True, index=True)


class VersionBaseRow(Row):
    """What was known of a version's base, and since when. The newest row is current; none is ever changed."""

    __tablename__ = "version_bases"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    name: Mapped[str | None]
    fingerprint: Mapped[str | None] = mapped_column(Digest)
    evidence: Mapped[str]
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


version_modules = table(VersionModuleRow)
version_targets = table(VersionTargetRow)
version_words = table(VersionWordRow)
version_bases = table(VersionBaseRow)
