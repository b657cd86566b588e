"""Versions side by side: what was measured of each, how sure the differences are, and what the gates say."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from registry.domain.errors import DigestMismatch, WrongUsage
from registry.domain.examples import LONGEST, Values, unpacked
from registry.domain.gates import unmet
from registry.domain.paired import LEVEL, difference
from registry.domain.records import Evaluation, ExampleResults, Version
from registry.domain.reference import Reference
from registry.service.core import UseCases
from registry.service.lookup import find
from registry.sql.catalog import Catalog

MOST = 8  # versions

Key = tuple[str, str, str]  # data set, its sha256 and the metric; "" is none


@dataclass(frozen=True, slots=True)
class _Side:
    """A version, the newest evaluation of each key, the aliases that point at it, and what the gates say."""

    version: Version
    evaluations: dict[Key, Evaluation]
    aliases: list[str]
    gates: list[dict[str, Any]]


class Comparison(UseCases):
    """Compare versions by what was measured of them."""

    def compare(
        self, references: Sequence[Reference], *, dataset: str | None = None, metric: str | None = None
    ) -> dict[str, Any]:
        """Versions side by side, each against the first: {"level", "versions", "rows"}.

        A row is a metric on a content of a data set. Its differences are paired by example where both sides have
        results of single examples; else they are differences of two numbers, without an interval. `dataset` is a name
        or a sha256. Raises what `find` raises, and WrongUsage for fewer than two versions, or more than eight.
        """
        if not 2 <= len(references) <= MOST:
            raise WrongUsage(f"2 to {MOST} versions can be compared, not {len(references)}")
        with self.database.reading() as catalog:
            sides = [self._side(catalog, reference) for reference in references]
        keys = {key: None for side in sides for key in side.evaluations if _wanted(key, dataset, metric)}
        rows = {key: _row(key, sides) for key in sorted(keys)}
        first, *others = sides
        values = self._values(first, rows)
        for place, other in enumerate(others, 1):
            theirs = self._values(other, rows)
            for key, row in rows.items():
                row["differences"][place] = _difference(key, first, other, values, theirs)
        return {"level": LEVEL, "versions": [_version(side) for side in sides], "rows": list(rows.values())}

    def _side(self, catalog: Catalog, reference: Reference) -> _Side:
        self.require(catalog, reference.adapter)
        version = find(catalog, reference).version
        found = catalog.evaluations.list(version.adapter, version.number)
        newest = {
            (evaluation.dataset or "", evaluation.dataset_sha256 or "", metric): evaluation
            for evaluation in reversed(found)
            for metric in evaluation.metrics
        }
        aliases = catalog.aliases.pointing_at(version.adapter, version.number)
        return _Side(version, newest, sorted(aliases), self._verdicts(catalog, version, found))

    def _verdicts(self, catalog: Catalog, version: Version, found: list[Evaluation]) -> list[dict[str, Any]]:
        """What each gate of the adapter would say if the caller promoted the version."""
        verdicts = []
        for gate in catalog.gates.list(version.adapter):
            approvals = catalog.gates.approvals(version.adapter, version.number, gate.alias)
            reasons = unmet(gate, found, approvals, author=version.author, requester=self.actor)
            verdicts.append({"alias": gate.alias, "passes": not reasons, "reasons": list(reasons)})
        return verdicts

    def _values(self, side: _Side, rows: dict[Key, dict[str, Any]]) -> dict[str, Values]:
        """The results of single examples that the rows need, by the blob that they are in."""
        kept = {e.examples.sha256: e.examples for key, e in side.evaluations.items() if key in rows and e.examples}
        return {sha256: self._read(examples) for sha256, examples in kept.items()}

    def _read(self, examples: ExampleResults) -> Values:
        """Raises DigestMismatch for bytes that are not what was kept."""
        with self.blobs.open(examples.sha256) as stream:
            data = stream.read(LONGEST + 1)
        if (found := hashlib.sha256(data).hexdigest()) != examples.sha256:
            raise DigestMismatch("results of examples", examples.sha256, examples.size, found, len(data))
        return unpacked(data)


def _wanted(key: Key, dataset: str | None, metric: str | None) -> bool:
    name, sha256, measured = key
    return dataset in (None, name, sha256) and metric in (None, measured)


def _row(key: Key, sides: Sequence[_Side]) -> dict[str, Any]:
    dataset, sha256, metric = key
    return {
        "metric": metric,
        "dataset": dataset or None,
        "dataset_sha256": sha256 or None,
        "values": [side.evaluations[key].metrics[metric] if key in side.evaluations else None for side in sides],
        "differences": [None] * len(sides),
    }


def _difference(
    key: Key, first: _Side, other: _Side, values: dict[str, Values], theirs: dict[str, Values]
) -> dict[str, Any] | None:
    """The other side's value minus the first's; None where one of them has none."""
    if key not in first.evaluations or key not in other.evaluations:
        return None
    before, after = first.evaluations[key], other.evaluations[key]
    ours, others = _of_metric(before, key[2], values), _of_metric(after, key[2], theirs)
    both = sorted(ours.keys() & others.keys())
    if not both:
        value = after.metrics[key[2]] - before.metrics[key[2]]
        return {"value": value, "low": None, "high": None, "p": None, "examples": 0, "method": "unpaired"}
    return asdict(difference([ours[name] for name in both], [others[name] for name in both]))


def _of_metric(evaluation: Evaluation, metric: str, values: dict[str, Values]) -> dict[str, float]:
    return values[evaluation.examples.sha256].get(metric, {}) if evaluation.examples else {}


def _version(side: _Side) -> dict[str, Any]:
    version = side.version
    return {
        "name": str(version.adapter),
        "version": version.number,
        "digest": f"sha256:{version.digest}",
        "status": version.status.value,
        "aliases": side.aliases,
        "gates": side.gates,
    }
