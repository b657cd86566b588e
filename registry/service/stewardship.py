"""Looking after versions: evaluations and statuses."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from registry.domain.errors import AliasInUse, Gone, NotActive, WrongUsage
from registry.domain.examples import means, packed, unpacked
from registry.domain.metrics import check_metrics
from registry.domain.records import Evaluation, ExampleResults, Status, Version
from registry.domain.reference import Reference
from registry.domain.resending import resending
from registry.domain.rights import Scope
from registry.domain.statuses import GONE
from registry.domain.texts import check_text
from registry.service.core import UseCases
from registry.service.lookup import find, look

SHA256 = re.compile(r"[0-9a-f]{64}")
_MOVES = {  # status asked for -> statuses from which it may be reached
    Status.YANKED: frozenset({Status.ACTIVE, Status.QUARANTINED}),
    Status.REVOKED: frozenset({Status.ACTIVE, Status.YANKED, Status.QUARANTINED, Status.PENDING}),
    Status.ACTIVE: frozenset({Status.YANKED, Status.QUARANTINED}),
}


class Stewardship(UseCases):
    """Evaluate, yank, release."""

    def evaluate(
        self,
        reference: Reference,
        metrics: Mapping[str, float],
        *,
        dataset: str | None = None,
        dataset_sha256: str | None = None,
        examples: Sequence[Any] = (),
    ) -> Evaluation:
        """Record what was measured of a version. Values must be finite numbers.

        `examples` are {"id", metric: value}, for paired comparison on the content of the data set; a metric that isn't
        in `metrics` is their mean. Raises WrongUsage.
        """
        data = packed(examples)
        measured = means(unpacked(data)) | dict(metrics)
        check_metrics(measured, dataset)
        if dataset_sha256 is not None and not SHA256.fullmatch(dataset_sha256):
            raise WrongUsage("the sha256 of a data set is 64 hex digits, in lower case")
        if data and dataset_sha256 is None:
            raise WrongUsage("results of single examples need the sha256 of their data set, to be compared on it")
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter, Scope.EVALUATE)
            version = find(catalog, reference).version
        evaluation = Evaluation(
            version.adapter, version.number, dataset, dataset_sha256, measured, self.actor, self.clock()
        )
        return resending(lambda: self._record(evaluation, data, len(examples)))

    def _record(self, evaluation: Evaluation, data: bytes, count: int) -> Evaluation:
        if data:
            evaluation = replace(evaluation, examples=self._keep_examples(data, count))
        with self.database.writing() as catalog:
            if kept := evaluation.examples:
                team = evaluation.adapter.team
                catalog.adapters.lock(evaluation.adapter)  # goes before the blob's
                catalog.blobs.register(team, [(kept.sha256, kept.size)], at=evaluation.at, actor=self.actor)
                self.hold(catalog, team, [kept.sha256])
            catalog.evaluations.add(evaluation)
            catalog.events.append(
                "version.evaluated",
                evaluation.adapter,
                {"version": evaluation.version, "dataset": evaluation.dataset, "metrics": dict(evaluation.metrics)},
                actor=self.actor,
            )
        return evaluation

    def _keep_examples(self, data: bytes, count: int) -> ExampleResults:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs.put([data], sha256=sha256, size=len(data))
        return ExampleResults(sha256, len(data), count)

    def set_status(self, reference: Reference, status: Status, *, reason: str, force: bool = False) -> Version:
        """Yank, revoke or release the version behind an exact pin.

        Raises AliasInUse when an alias points at a version that would no longer be found (unless `force`), Gone.
        """
        check_text("the reason", reason)
        with self.database.writing() as catalog:
            self.require(catalog, reference.adapter, Scope.ADMIN if status is Status.REVOKED else Scope.WRITE)
            catalog.adapters.lock(reference.adapter)  # no alias may move there meanwhile
            version = look(catalog, reference).version
            if version.status is status:
                return version
            if version.status not in _MOVES[status]:
                raise (Gone if version.status in GONE else NotActive)(version.reference, version.status.value)
            aliases = catalog.aliases.pointing_at(version.adapter, version.number)
            if aliases and status is not Status.ACTIVE and not force:
                raise AliasInUse(version.reference, ", ".join(aliases))
            catalog.versions.set_status(version.adapter, version.number, status=status, reason=reason)
            catalog.events.append(
                "version.status",
                version.adapter,
                {"version": version.number, "status": status.value, "reason": reason},
                actor=self.actor,
            )
        return replace(version, status=status, status_reason=reason)
