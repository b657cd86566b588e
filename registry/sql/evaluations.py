"""Evaluations: metrics that were measured on versions."""

import builtins
from collections.abc import Sequence
from math import isfinite
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from registry.domain.errors import WrongUsage
from registry.domain.records import Evaluation, ExampleResults
from registry.domain.reference import AdapterName
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_all
from registry.sql.rows import version_id
from registry.sql.tables.evaluations import evaluation_metrics, evaluations, version_metrics


class Evaluations:
    """Queries on evaluations."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, evaluation: Evaluation) -> None:
        """Record metrics; from now on search compares these values. Locks the adapter until the commit.

        Raises AdapterNotFound, VersionNotFound, and WrongUsage for a value that is no finite number.
        """
        for name, value in evaluation.metrics.items():
            if not isfinite(value):
                raise WrongUsage(f"the metric {name} is {value}, not a finite number")
        Adapters(self._connection).lock(evaluation.adapter)
        row_id = version_id(self._connection, evaluation.adapter, evaluation.version)
        row = {
            "version_id": row_id,
            "dataset": evaluation.dataset,
            "dataset_sha256": evaluation.dataset_sha256,
            "actor": evaluation.actor,
            "at": evaluation.at,
            "examples_sha256": evaluation.examples.sha256 if evaluation.examples else None,
            "examples_size": evaluation.examples.size if evaluation.examples else None,
            "examples_count": evaluation.examples.count if evaluation.examples else None,
        }
        result = self._connection.execute(insert(evaluations), row)
        assert result.inserted_primary_key is not None
        self._add_metrics(result.inserted_primary_key[0], row_id, evaluation)

    def list(self, name: AdapterName, number: int) -> builtins.list[Evaluation]:
        """Every evaluation of a version, newest first. Raises VersionNotFound."""
        row_id = version_id(self._connection, name, number)
        statement = select(evaluations).where(evaluations.c.version_id == row_id).order_by(evaluations.c.id.desc())
        rows = self._connection.execute(statement).all()
        metrics = self._metrics([row.id for row in rows])
        return [
            Evaluation(
                name,
                number,
                row.dataset,
                row.dataset_sha256,
                metrics.get(row.id, {}),
                row.actor,
                row.at,
                _examples(row),
            )
            for row in rows
        ]

    def _add_metrics(self, evaluation_id: int, row_id: int, evaluation: Evaluation) -> None:
        values = evaluation.metrics.items()
        rows = [{"evaluation_id": evaluation_id, "name": name, "value": value} for name, value in values]
        insert_all(self._connection, evaluation_metrics, rows)
        older = delete(version_metrics).where(
            version_metrics.c.version_id == row_id, version_metrics.c.name.in_(evaluation.metrics)
        )
        self._connection.execute(older)
        newest = [{"version_id": row_id, "name": name, "value": value} for name, value in values]
        insert_all(self._connection, version_metrics, newest)

    def _metrics(self, ids: Sequence[int]) -> dict[int, dict[str, float]]:
        statement = select(evaluation_metrics).where(evaluation_metrics.c.evaluation_id.in_(ids))
        found: dict[int, dict[str, float]] = {}
        for row in self._connection.execute(statement.order_by(evaluation_metrics.c.name)):
            found.setdefault(row.evaluation_id, {})[row.name] = row.value
        return found


def _examples(row: Any) -> ExampleResults | None:
    if row.examples_sha256 is None:
        return None
    return ExampleResults(row.examples_sha256, row.examples_size, row.examples_count)
