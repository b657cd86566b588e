"""Where versions came from, and what was measured on them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import CommitId, Digest, Key, Row, RowId, UtcDateTime, table


class ProvenanceRow(Row):
    """One way in which a version's content arrived; append-only."""

    __tablename__ = "provenances"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    commit: Mapped[str] = mapped_column(CommitId)
    recipe_id: Mapped[int | None] = mapped_column(ForeignKey("recipes.id"))
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class RecipeRow(Row):
    """A pinned recipe and the version that it gave first in this adapter."""

    __tablename__ = "recipes"
    __table_args__ = (UniqueConstraint("adapter_id", "digest"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    digest: Mapped[str] = mapped_column(Digest)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    recipe: Mapped[dict[str, Any]] = mapped_column(JSON)


class LineageEdgeRow(Row):
    """From a provenance of `child_id` to a parent, in the recipe's order."""

    __tablename__ = "lineage_edges"
    __table_args__ = (Index(None, "parent_id", "child_id"),)

    provenance_id: Mapped[int] = mapped_column(ForeignKey("provenances.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    child_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    parent_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))


class EvaluationRow(Row):
    """One run of an evaluation on a version."""

    __tablename__ = "evaluations"

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    dataset: Mapped[str | None]
    dataset_sha256: Mapped[str | None] = mapped_column(Digest)
    actor: Mapped[str]
    at: Mapped[datetime] = mapped_column(UtcDateTime)


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


provenances = table(ProvenanceRow)
recipes = table(RecipeRow)
lineage_edges = table(LineageEdgeRow)
evaluations = table(EvaluationRow)
evaluation_metrics = table(EvaluationMetricRow)
version_metrics = table(VersionMetricRow)
