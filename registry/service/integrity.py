"""Whether stored bytes are still what their digests say; what is known to be damaged is not served.

A blob that is missing or changed is marked in the catalog, and with it every version that has it: a look-up then says
so (Damaged) instead of leading to bytes that a client must throw away. Whoever pushes the same content repairs it: the
damaged bytes go when right ones come, and the mark when they were read.
"""

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate

from registry.blobs.checks import Hashed, Watch, unwatched
from registry.blobs.store import BlobStore
from registry.domain.digest import read_chunks
from registry.domain.errors import BlobNotFound, DigestMismatch
from registry.domain.records import Version
from registry.domain.rights import Scope
from registry.service.core import Progress, UseCases, silent
from registry.sql.catalog import Catalog

SCRUB_EVERY = timedelta(days=30)  # each blob is read once in so long
SCRUB_RATE = 8 << 20  # bytes a second


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


@dataclass(frozen=True, slots=True)
class Repair:
    """Digests that were damaged: those that are whole again, and those that the other store hasn't whole either."""

    repaired: tuple[str, ...]
    left: tuple[str, ...]


class Integrity(UseCases):
    """Verify, scrub, repair."""

    def verify(
        self, version: Version | None = None, *, deep: bool = False, progress: Progress = silent
    ) -> Verification:
        """Look at every blob (of one version, or of all): is it there, is it whole, and `deep`: is it unchanged?

        What is damaged is not served from then on, until it is found whole by looking deep, or repaired.
        """
        if version is None:
            self.require_operator("verify", "every team's blobs")
        looked, read, damage = 0, 0, []
        blobs = self._blobs_of(version)
        total = sum(size for _, size in self._blobs_of(version))
        for sha256, size in blobs:
            problem = self._problem(sha256, size, deep=deep)
            if problem or deep:
                self._note(sha256, problem)
            if problem:
                damage.append(self._damage(sha256, size, problem))
            looked, read = looked + 1, read + size
            progress("verifying", read, total)
        return Verification(looked, read, deep, tuple(damage))

    def repair(self, source: BlobStore, *, progress: Progress = silent) -> Repair:
        """Replace what is known to be damaged by what another store has, where that is whole. For operators."""
        self.require_operator("repair", "blobs")
        with self.database.reading() as catalog:
            damaged = catalog.integrity.damaged()
        repaired: list[str] = []
        left: list[str] = []
        done = 0
        for sha256, size in damaged.items():
            (repaired if self._repaired(source, sha256, size) else left).append(sha256)
            done += size
            progress("repairing", done, sum(damaged.values()))
        return Repair(tuple(repaired), tuple(left))

    def scrub(self, *, rate: float = SCRUB_RATE, progress: Progress = silent) -> Verification | None:
        """Read the blob that was read longest ago; None if all were read within a month.

        Reads `rate` bytes a second at most. Servers that scrub at once read different ones. For operators.
        """
        self.require_operator("scrub", "blobs")
        at = self.clock()
        with self.database.reading() as catalog:
            found = catalog.integrity.unread(at - SCRUB_EVERY)
        if found is None:
            return None
        with self.database.writing() as catalog:
            if not catalog.integrity.take(found[0], before=at - SCRUB_EVERY, at=at):
                return Verification(0, 0, True, ())
        problem = self._problem(*found, deep=True, watch=_pace(rate, progress))
        self._note(found[0], problem)
        damage = (self._damage(*found, problem),) if problem else ()
        return Verification(1, found[1], True, damage)

    # -- what is known to be damaged ----------------------------------------------------------------------------------

    def check_damaged(self, digests: Collection[str]) -> None:
        """Look again at those of the digests that are known to be damaged: what isn't any more is served again.

        The bytes of one that still is go, so that a store takes right ones for it. Raises BlobNotFound for such.
        """
        with self.database.reading() as catalog:
            damaged = catalog.integrity.damaged(set(digests))
        for sha256, size in damaged.items():
            problem = self._problem(sha256, size, deep=True)
            self._note(sha256, problem, drop=True)
            if problem:
                raise BlobNotFound(sha256)

    def make_room(self, sha256: str) -> None:
        """Let the store not keep damaged bytes in place of those that come."""
        with suppress(BlobNotFound):
            self.check_damaged([sha256])

    def _note(self, sha256: str, problem: str | None, *, drop: bool = False) -> None:
        """Mark a blob and its versions by what was found, if that is news; `drop`: and delete what is damaged."""
        with self.database.reading() as catalog:
            known = bool(catalog.integrity.damaged({sha256}))
        if bool(problem) == known and not (problem and drop):
            return
        with self.database.writing() as catalog:
            known_now = catalog.integrity.lock(sha256)
            if problem and drop and known_now:  # nobody has found right ones meanwhile
                self.blobs.delete(sha256)
            if problem is None and self.blobs.stat(sha256) is None:  # somebody has dropped it since it was read
                return
            if not (drop and problem):
                catalog.integrity.note(sha256, problem, at=self.clock())
                self._tell(catalog, sha256, problem)

    def _tell(self, catalog: Catalog, sha256: str, problem: str | None) -> None:
        kind = "version.damaged" if problem else "version.repaired"
        for name, numbers in catalog.integrity.hit(sha256).items():
            payload = {"versions": numbers, "sha256": sha256, "problem": problem}
            catalog.events.append(kind, name, payload, actor=self.actor)

    def _repaired(self, source: BlobStore, sha256: str, size: int) -> bool:
        try:
            self.check_damaged([sha256])
        except BlobNotFound:
            try:
                with source.open(sha256) as stream:
                    self.blobs.put(read_chunks(stream), sha256=sha256, size=size)
                self.check_damaged([sha256])
            except (BlobNotFound, DigestMismatch):
                return False
        return True

    def _blobs_of(self, version: Version | None) -> Iterator[tuple[str, int]]:
        if version:
            yield from {file.sha256: file.size for file in version.files}.items()
            return
        with self.database.reading() as catalog:
            yield from catalog.blobs.all()

    def _problem(self, sha256: str, size: int, *, deep: bool, watch: Watch = unwatched) -> str | None:
        stat = self.blobs.stat(sha256)
        if stat is None:
            return "missing"
        if stat.size != size:
            return f"has {stat.size} bytes, not {size}"
        if not deep:
            return None
        try:
            with self.blobs.open(sha256) as stream:
                hashed = Hashed(read_chunks(stream))
                for count in accumulate(len(chunk) for chunk in hashed):
                    watch(count)
        except BlobNotFound:
            return "missing"
        return None if hashed.sha256 == sha256 else f"changed at rest: its bytes hash to sha256:{hashed.sha256}"

    def _damage(self, sha256: str, size: int, problem: str) -> Damage:
        with self.database.reading() as catalog:
            # Another team may have the same bytes: that isn't told.
            versions = [v for v in catalog.blobs.users(sha256) if self._may(catalog, Scope.READ, v.adapter.team)]
            aliases = sorted(_aliases(catalog.aliases.pointing_at(v.adapter, v.number), v) for v in versions)
        names = tuple(version.reference for version in versions)
        return Damage(sha256, size, problem, names, tuple(alias for group in aliases for alias in group))


def _aliases(names: Iterable[str], version: Version) -> list[str]:
    return [f"{version.adapter}@{name}" for name in names]


def _pace(rate: float, progress: Progress) -> Watch:
    """Wait so long that no more than `rate` bytes a second are read."""
    began = time.monotonic()

    def watch(count: int) -> None:
        progress("scrubbing", count, count)
        time.sleep(max(0.0, began + count / rate - time.monotonic()))

    return watch
