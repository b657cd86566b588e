"""What was measured on versions.

Apart from the lineage because a partial index makes SQLAlchemy import PostgreSQL's dialect, which no look-up needs.
"""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Digest, Key, Row, RowId, UtcDateTime, table


class EvaluationRow(Row):
    """One run of an evaluation on a version."""

    __tablename__ = "evaluations"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    dataset: Mapped[str | None]
    dataset_sha256: Mapped[str | None] = mapped_column(Digest)
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


_NEWEST = text("newest")


class EvaluationMetricRow(Row):
    """A measured value. `newest` marks the last one of its name on its version: the one that search compares."""

    __tablename__ = "evaluation_metrics"
    __table_args__ = (
        Index(
            "uq_evaluation_metrics_newest",
            "version_id",
            "name",
            unique=True,
            sqlite_where=_NEWEST,
            postgresql_where=_NEWEST,
        ),
        Index(
            "ix_evaluation_metrics_newest_value",
            "name",
            "value",
            "version_id",
            sqlite_where=_NEWEST,
            postgresql_where=_NEWEST,
        ),
    )

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Key, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    value: Mapped[float]
    newest: Mapped[bool]


evaluations = table(EvaluationRow)
evaluation_metrics = table(EvaluationMetricRow)
