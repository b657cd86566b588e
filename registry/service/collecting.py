"""Collection: blobs that nothing refers to go, after a grace; and so do bytes in the store that nobody knows.

What is a reference is said in `registry.sql.roots`. A row of `blobs` is in use (`idle_since` is empty) or idle since
some moment; without a row, or once it is removed, the catalog doesn't know the bytes. Three rules, whatever else runs:

1. Only the transaction that refers to a blob takes it into use. It holds the row first, which excludes rule 2; of an
   idle one it asks the store, *then*, whether the bytes are there, and refuses with BlobNotFound if not (`hold` in
   core.py). A row in use so had its bytes when it came into use.
2. Bytes are deleted only by a transaction that holds the row, has seen it idle for the whole grace, and sees after
   taking hold that nothing refers to it. The bytes go first, the row with the commit.
3. Whoever is told that they needn't send a file (`possessed`) has it leased: it is idle from then on, if nothing refers
   to it. What is pushed is idle from its arrival on. So there is a whole grace to publish it.

Why that suffices. *A push skips sending and publishes after the sweep*: it had the grace; if it was slower, rule 1
refuses it, nothing is acknowledged, and the client sends the bytes. *Between looking at the store and publishing*:
rule 1 looks again, under the hold. *A collector is killed between the bytes and the row*: the row stays, idle, so that
rule 1 looks; the next cycle ends it. *Two collectors*: the second finds the row held and leaves it, or gone. *A push
writes bytes that a collector is about to delete*: it records them afterwards, for which it waits for the collector; the
row is then idle and new, and rule 1 looks. *Something becomes unreferenced and is referred to again*: the grace begins
when a cycle sees it idle, and anew with each lease. *A late PUT*: goes to the staging area only; what of it became a
blob without a row is found by listing, given an idle row, and waits the grace from then on.

What is left. A collector that is frozen between seeing and deleting while its database drops it could delete what
others took into use meanwhile; so each deletion is preceded by a look at how long it has held the rows, and they are
held for a second at most. Grace is measured with the servers' clocks, which must agree to much better than it.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from registry.blobs.store import BlobStat
from registry.domain.errors import WrongUsage
from registry.service.core import Progress, UseCases, silent
from registry.service.xorbs import end_epoch
from registry.sql.catalog import Catalog

GRACE = timedelta(days=1)
LONGEST_GRACE = timedelta(days=3650)
_AT_ONCE = 50  # blobs deleted in one transaction
_LISTED_AT_ONCE = 1000
HELD = 1.0  # seconds for which rows are held to delete their bytes


@dataclass(frozen=True, slots=True)
class Collection:
    """What a cycle removed, or would remove: `unknown` of the blobs were in the store only. `waiting` are in grace."""

    dry_run: bool
    grace: float  # seconds
    blobs: int
    bytes: int
    unknown: int
    waiting: int
    waiting_bytes: int


def check_grace(grace: timedelta) -> None:
    """Raises WrongUsage for a grace that can't be meant."""
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        raise WrongUsage("a grace is between nothing and ten years")


@dataclass(slots=True)
class _Tally:
    blobs: int = 0
    bytes: int = 0

    def add(self, sizes: Mapping[str, int]) -> None:
        self.blobs += len(sizes)
        self.bytes += sum(sizes.values())


class Collecting(UseCases):
    """Collect."""

    def collect(
        self, *, grace: timedelta = GRACE, dry_run: bool = False, listed: bool = True, progress: Progress = silent
    ) -> Collection:
        """Remove what nothing has referred to for the grace; with `dry_run`, say what that would be. For operators.

        `listed`: bytes too that lie in the store and aren't in the catalog; they may be another registry's, if somebody
        gave two the same store. Any number of these may run, beside everything else. Raises NotAllowed, WrongUsage.
        """
        self.require_operator("collect", "blobs")
        check_grace(grace)
        if dry_run:
            return self._survey(grace)
        at = self.clock()
        self._note_idle(at, progress)
        unknown = self._adopt(at - grace, progress) if listed else 0
        done = self._remove_due(at - grace, progress)
        with self.database.reading() as catalog:
            waiting, waiting_bytes = catalog.collection.waiting(at - grace)
        return Collection(False, grace.total_seconds(), done.blobs, done.bytes, unknown, waiting, waiting_bytes)

    def _survey(self, grace: timedelta) -> Collection:
        before = self.clock() - grace
        due, waiting = _Tally(), _Tally()
        for some in self._due(before):
            due.add(some)
        for some in self._unreferenced():  # for these the grace would begin now
            (waiting if grace else due).add(some)
        known = due.blobs
        for found in self._unknown(before):
            due.add({stat.sha256: stat.size for stat in found})
        with self.database.reading() as catalog:
            count, size = catalog.collection.waiting(before)
        unknown = due.blobs - known
        held = (waiting.blobs + count, waiting.bytes + size)
        return Collection(True, grace.total_seconds(), due.blobs, due.bytes, unknown, *held)

    # -- seeing -------------------------------------------------------------------------------------------------------

    def _note_idle(self, at: datetime, progress: Progress) -> None:
        for some in self._unreferenced():
            progress("looking", 0, 0)
            with self.database.writing() as catalog:
                catalog.collection.note_idle(some, at=at)

    def _unreferenced(self) -> Iterator[dict[str, int]]:
        """Blobs in use that nothing refers to, some at a time."""
        last: str | None = ""
        while last is not None:
            with self.database.reading() as catalog:
                found, last = catalog.collection.unreferenced(last)
            if found:
                yield found

    def _due(self, before: datetime) -> Iterator[dict[str, int]]:
        last = ""
        while True:
            with self.database.reading() as catalog:
                found = catalog.collection.due(before, after=last, limit=_AT_ONCE)
            if not found:
                return
            last = max(found)
            yield found

    def _adopt(self, before: datetime, progress: Progress) -> int:
        """Let bytes that the catalog doesn't know have rows, idle since they were written; how many there were."""
        count = 0
        for found in self._unknown(before, progress):
            with self.database.writing() as catalog:
                for stat in found:
                    catalog.collection.adopt(stat.sha256, stat.size, at=stat.modified_at)
            count += len(found)
        return count

    def _unknown(self, before: datetime, progress: Progress = silent) -> Iterator[list[BlobStat]]:
        """What the store has from before a moment, and the catalog not, some at a time."""
        listed = (stat for stat in self.blobs.list() if stat.modified_at <= before)
        while some := {stat.sha256: stat for stat in islice(listed, _LISTED_AT_ONCE)}:
            progress("looking", 0, 0)
            with self.database.reading() as catalog:
                unknown = catalog.collection.unknown(some)
            if unknown:
                yield [some[sha256] for sha256 in sorted(unknown)]

    # -- removing -----------------------------------------------------------------------------------------------------

    def _remove_due(self, before: datetime, progress: Progress) -> _Tally:
        done = _Tally()
        for some in self._due(before):
            left = dict(some)
            while left:
                removed, seen = self._remove(left, before)
                done.add(removed)
                left = {sha256: size for sha256, size in left.items() if sha256 not in seen}
                progress("collecting", done.bytes, done.bytes + sum(left.values()))
        return done

    def _remove(self, some: Mapping[str, int], before: datetime) -> tuple[dict[str, int], set[str]]:
        """Remove some blobs that are due, as far as that goes in a second; which, and which are seen to."""
        held_until = time.monotonic() + HELD
        with self.database.writing() as catalog:
            held = catalog.collection.lock_due(some, before)
            used = catalog.collection.referenced(held)
            catalog.collection.settle(used)
            free = {sha256: size for sha256, size in held.items() if sha256 not in used}
            removed = self._delete(free, held_until)
            self._forget_removed(catalog, removed)
        return removed, set(some) - (free.keys() - removed.keys())

    def _delete(self, sizes: Mapping[str, int], held_until: float) -> dict[str, int]:
        """Delete bytes while their rows are held; which were."""
        removed: dict[str, int] = {}
        for sha256, size in sizes.items():
            if time.monotonic() > held_until:
                break
            self.blobs.delete(sha256)
            removed[sha256] = size
        return removed

    def _forget_removed(self, catalog: Catalog, removed: Mapping[str, int], **why: str) -> None:
        if removed:
            for team in {team for sha256 in removed for team in catalog.xorbs.lose(sha256)}:
                end_epoch(catalog, team)
            catalog.collection.remove(removed, at=self.clock())
            payload = {"blobs": len(removed), "bytes": sum(removed.values()), "sha256": sorted(removed), **why}
            catalog.events.append("blobs.removed", None, payload, actor=self.actor)
