"""Base models and the labels that admins give them."""

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CompressedJson, Digest, Key, Row, RowId, UtcDateTime, table


class BaseModelRow(Row):
    """A registered base model; the tensor index is large and read alone."""

    __tablename__ = "base_models"

    fingerprint: Mapped[str] = mapped_column(Digest, primary_key=True)
    format: Mapped[str]
    model_type: Mapped[str | None]
    tensors: Mapped[int]
    parameters: Mapped[int] = mapped_column(RowId)
    size: Mapped[int] = mapped_column(RowId)
    quantised_of: Mapped[str | None] = mapped_column(Digest, ForeignKey("base_models.fingerprint"))
    succeeds: Mapped[str | None] = mapped_column(Digest, ForeignKey("base_models.fingerprint"))
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    tensor_index: Mapped[dict[str, Any]] = mapped_column(CompressedJson)


class BaseNameRow(Row):
    """A label of a base model, unique without case."""

    __tablename__ = "base_names"

    name_key: Mapped[str] = mapped_column(Key, primary_key=True)
    name: Mapped[str]
    fingerprint: Mapped[str] = mapped_column(Digest, ForeignKey("base_models.fingerprint"), index=True)
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


base_models = table(BaseModelRow)
base_names = table(BaseNameRow)
