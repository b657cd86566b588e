"""A collector that never rests, with leases of a second, beside processes that push, pull, promote and delete.

    python -m tests.soak.collection [--seconds 60] [--processes 4] [--collectors 2] [DATABASE_URL]

Every process draws from the same few contents and names, so that what one deletes another is just pushing. At the end
each version that stands must be whole, and each that was acknowledged must be known. Prints what was counted.
"""

import argparse
import hashlib
import multiprocessing
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import (
    Absent,
    AdaptersError,
    AliasInUse,
    BlobNotFound,
    Conflict,
    Gone,
    NotActive,
    UploadNotFound,
)
from registry.domain.records import FileEntry, Status, Version
from registry.domain.reference import AdapterName, Reference, Selector
from registry.service import Registry
from registry.service.publishing import Publication, Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.factories import write_adapter

LEASE = timedelta(seconds=1)
NAMES = [AdapterName("soak", f"adapter-{number}") for number in range(3)]
CONTENTS = 6


@dataclass
class Report:
    """What a process saw. `acknowledged` are references of versions; `wrong` is empty, or the soak has failed."""

    counts: Counter[str] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)


class Actor:
    """One process that does one thing after another."""

    def __init__(self, registry: Registry, seed: int) -> None:
        self.report = Report()
        self._registry = registry
        self._random = random.Random(seed)
        self._contents = dict.fromkeys(range(CONTENTS), 0)
        self._folder = Path(tempfile.mkdtemp(prefix="soak-"))

    def run(self, until: float) -> Report:
        """Act until then."""
        acts: list[Callable[[], None]] = [self.push] * 5 + [self.push_what_is_there] * 5
        acts += [self.pull] * 8 + [self.promote] * 4 + [self.delete] * 5
        while time.monotonic() < until:
            act = self._random.choice(acts)
            self.report.counts["events"] += 1
            try:
                act()
            except AdaptersError as error:
                self.report.wrong.append(f"{act.__name__}: {error.code}: {error.message}")
            except Exception:
                self.report.wrong.append(traceback.format_exc())
        shutil.rmtree(self._folder)
        return self.report

    def push(self) -> None:
        """As `adapters push` does."""
        self._publish(lambda name, folder: self._registry.push_folder(folder, Submission(name, ())))

    def push_what_is_there(self) -> None:
        """As a client does that isn't asked to send what the team has, and takes its time within the lease."""
        self._publish(self._push_slowly)

    def _push_slowly(self, name: AdapterName, folder: Path) -> Publication | None:
        began = time.monotonic()
        files = [self._bring(name.team, path) for path in sorted(folder.iterdir())]
        time.sleep(self._random.uniform(0, LEASE.total_seconds() / 4))
        try:
            return self._registry.publish(Submission(name, tuple(files)))
        except BlobNotFound:
            if time.monotonic() - began < LEASE.total_seconds():
                raise
            self.report.counts["later than the lease, refused"] += 1  # the machine was busy; a client sends again
            return None

    def _bring(self, team: str, path: Path) -> FileEntry:
        """Let the team have a file, sending nothing that it has."""
        data = path.read_bytes()
        file = FileEntry(path.name, hashlib.sha256(data).hexdigest(), len(data))
        while True:
            arrival = self._registry.begin_upload(team, file.sha256, file.size)
            if arrival.upload is None:
                self.report.counts["not sent again"] += 1
                return file
            with suppress(Conflict, UploadNotFound):  # somebody ended it, or what came of it is collected
                part = self._registry.open_part(arrival.upload.id, 1)
                part.write(data)
                part.finish()
                part.close()
                if self._registry.complete_upload(arrival.upload.id).done:
                    self.report.counts["sent"] += 1
                    return file

    def _publish(self, publish: Callable[[AdapterName, Path], Publication | None]) -> None:
        name, slot = self._random.choice(NAMES), self._random.randrange(CONTENTS)
        try:
            publication = publish(name, self._content(slot))
        except Gone:  # purged under this name, for good: every process goes on with the same other weights
            self._contents[slot] += 1
            return
        if publication and publication.version:
            self.report.acknowledged.add(publication.version.reference)
            self.report.counts["pushed"] += 1

    def _content(self, slot: int) -> Path:
        folder, seed = self._folder / str(slot), slot + CONTENTS * self._contents[slot]
        return write_adapter(folder, seed=seed, rank=1 + seed % 8, lora_alpha=1 + seed)

    def pull(self) -> None:
        """Pull what a name leads to."""
        found = self._some_version()
        if found is None:
            return
        try:
            self._registry.pull(found, self._folder / "pulled")
            self.report.counts["pulled"] += 1
        except BlobNotFound:
            if self._registry.peek(_pin(found)).status is Status.ACTIVE:
                raise
            self.report.counts["deleted while it was pulled"] += 1
        finally:
            shutil.rmtree(self._folder / "pulled", ignore_errors=True)

    def promote(self) -> None:
        """Point an alias at what a name leads to."""
        found = self._some_version()
        if found is not None:
            with suppress(Absent, Conflict, Gone, NotActive):  # it was deleted meanwhile
                self._registry.promote(_pin(found), self._random.choice(("production", "canary")))
                self.report.counts["promoted"] += 1

    def delete(self) -> None:
        """Delete an adapter."""
        with suppress(Absent, Gone, AliasInUse):
            name, force = self._random.choice(NAMES), self._random.random() < 0.9
            self._registry.delete_adapter(name, reason="soak", force=force)
            self.report.counts["deleted"] += 1

    def _some_version(self) -> Version | None:
        with suppress(Absent, Gone, NotActive):
            return self._registry.find_version(Reference(self._random.choice(NAMES)))
        return None


def _pin(version: Version) -> Reference:
    return Reference(version.adapter, Selector.VERSION, str(version.number))


def _collect(registry: Registry, until: float) -> Report:
    report = Report()
    while time.monotonic() < until:
        try:
            report.counts["collected"] += registry.collect(grace=LEASE).blobs
            report.counts["cycles"] += 1
        except AdaptersError as error:
            report.wrong.append(f"collect: {error.code}: {error.message}")
    return report


def _process(url: str, folder: Path, seconds: float, seed: int) -> Report:
    """What one process does: it acts, or, without a seed, collects."""
    registry = Registry(Database(url), FolderStore(folder))
    until = time.monotonic() + seconds
    try:
        return Actor(registry, seed).run(until) if seed else _collect(registry, until)
    finally:
        registry.close()


def soak(url: str, folder: Path, *, seconds: float, processes: int, collectors: int) -> Report:
    """Run it all, then look at what is there."""
    total = Report()
    context = multiprocessing.get_context("spawn")
    seeds = [*range(1, processes + 1), *([0] * collectors)]
    with ProcessPoolExecutor(len(seeds), mp_context=context) as pool:
        for done in [pool.submit(_process, url, folder, seconds, seed) for seed in seeds]:
            report = done.result()
            total.counts.update(report.counts)
            total.acknowledged |= report.acknowledged
            total.wrong += report.wrong
    registry = Registry(Database(url), FolderStore(folder))
    _look(registry, total)
    registry.close()
    return total


def _look(registry: Registry, total: Report) -> None:
    total.wrong += [f"damage: {damage}" for damage in registry.verify(deep=True).damage]
    for reference in sorted(total.acknowledged):
        version = registry.peek(Reference.parse(reference))  # one that isn't known raises
        total.counts["acknowledged versions that stand"] += version.status is Status.ACTIVE
    total.counts["acknowledged versions"] = len(total.acknowledged)
    total.counts["wrong"] = len(total.wrong)


def main() -> None:
    """Run it for a while, and print what was counted."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.collection", description=__doc__)
    parser.add_argument("database", nargs="?", help="an empty one; default: SQLite in a temporary folder")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--collectors", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        url = chosen.database or f"sqlite:///{folder}/catalog.db"
        database = Database(url)
        ensure_schema(database, migrate=True)
        database.close()
        sizes = {"processes": chosen.processes, "collectors": chosen.collectors}
        report = soak(url, Path(folder) / "blobs", seconds=chosen.seconds, **sizes)
    for what, count in sorted(report.counts.items()):
        print(f"{count:>9,}  {what}")
    for line in report.wrong[:20]:
        print(line, file=sys.stderr)
    sys.exit(bool(report.wrong))


if __name__ == "__main__":
    main()
