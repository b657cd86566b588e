"""Looking after versions: evaluations, statuses, and whether the bytes are still what their digests say."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from registry.domain.digest import sha256_stream
from registry.domain.errors import AliasInUse, BlobNotFound, Gone, NotActive, WrongUsage
from registry.domain.examples import means, packed, unpacked
from registry.domain.metrics import check_metrics
from registry.domain.records import Evaluation, ExampleResults, Status, Version
from registry.domain.reference import Reference
from registry.domain.rights import Scope
from registry.domain.statuses import GONE
from registry.domain.texts import check_text
from registry.service.core import Progress, UseCases, retried, silent
from registry.service.lookup import find, look

SHA256 = re.compile(r"[0-9a-f]{64}")
_MOVES = {  # status asked for -> statuses from which it may be reached
    Status.YANKED: frozenset({Status.ACTIVE, Status.QUARANTINED}),
    Status.REVOKED: frozenset({Status.ACTIVE, Status.YANKED, Status.QUARANTINED, Status.PENDING}),
    Status.ACTIVE: frozenset({Status.YANKED, Status.QUARANTINED}),
}


@dataclass(frozen=True, slots=True)
class Damage:
    """A blob that is missing or changed, and every version and alias that it hits."""

    sha256: str
    size: int
    problem: str
    versions: tuple[str, ...]
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """How much was looked at, and what was found wrong."""

    blobs: int
    bytes: int
    deep: bool
    damage: tuple[Damage, ...]


class Stewardship(UseCases):
    """Evaluate, yank, release, verify."""

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
        return retried(lambda: self._record(evaluation, data, len(examples)))

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

    def verify(
        self, version: Version | None = None, *, deep: bool = False, progress: Progress = silent
    ) -> Verification:
        """Look at every blob (of one version, or of all): is it there, is it whole, and `deep`: is it unchanged?"""
        if version is None:
            self.require_operator("verify", "every team's blobs")
        looked, read, damage = 0, 0, []
        blobs = self._blobs_of(version)
        total = sum(size for _, size in self._blobs_of(version))
        for sha256, size in blobs:
            problem = self._problem(sha256, size, deep=deep)
            if problem:
                damage.append(self._damage(sha256, size, problem))
            looked, read = looked + 1, read + size
            progress("verifying", read, total)
        return Verification(looked, read, deep, tuple(damage))

    def _blobs_of(self, version: Version | None) -> Iterator[tuple[str, int]]:
        if version:
            yield from {file.sha256: file.size for file in version.files}.items()
            return
        with self.database.reading() as catalog:
            yield from catalog.blobs.all()

    def _problem(self, sha256: str, size: int, *, deep: bool) -> str | None:
        stat = self.blobs.stat(sha256)
        if stat is None:
            return "missing"
        if stat.size != size:
            return f"has {stat.size} bytes, not {size}"
        if not deep:
            return None
        try:
            with self.blobs.open(sha256) as stream:
                found, _ = sha256_stream(stream)
        except BlobNotFound:
            return "missing"
        return None if found == sha256 else f"changed at rest: its bytes hash to sha256:{found}"

    def _damage(self, sha256: str, size: int, problem: str) -> Damage:
        with self.database.reading() as catalog:
            # Another team may have the same bytes: that isn't told.
            versions = [v for v in catalog.blobs.users(sha256) if self._may(catalog, Scope.READ, v.adapter.team)]
            aliases = sorted(_aliases(catalog.aliases.pointing_at(v.adapter, v.number), v) for v in versions)
        names = tuple(version.reference for version in versions)
        return Damage(sha256, size, problem, names, tuple(alias for group in aliases for alias in group))


def _aliases(names: Iterable[str], version: Version) -> list[str]:
    return [f"{version.adapter}@{name}" for name in names]
