"""What was measured on versions."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Key, Row, RowId, UtcDateTime, table


class EvaluationRow(Row):
    """One run of an evaluation on a version; `examples_sha256` is the blob with the results of single examples."""

    __tablename__ = "evaluations"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    dataset: Mapped[str | None]
    dataset_sha256: Mapped[str | None] = mapped_column(Digest)
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)
    examples_sha256: Mapped[str | None] = mapped_column(Digest, index=True)
    examples_size: Mapped[int | None] = mapped_column(RowId)
    examples_count: Mapped[int | None]


class EvaluationMetricRow(Row):
    """A measured value."""

    __tablename__ = "evaluation_metrics"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Key, primary_key=True)
    value: Mapped[float]


class VersionMetricRow(Row):
    """The newest value of each metric of a version: the one that search compares."""

    __tablename__ = "version_metrics"
    __table_args__ = (Index(None, "name", "value", "version_id"),)

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Key, primary_key=True)
    value: Mapped[float]


evaluations = table(EvaluationRow)
evaluation_metrics = table(EvaluationMetricRow)
version_metrics = table(VersionMetricRow)
