"""Push and pull of 100 MB, embedded (SQLite and a folder), against `cp` plus one sha256 of the same file.

    python -m benchmarks.transfer [--rounds N] [--megabytes N]

Interleaved rounds, fresh bytes in each, medians. Ours is durable when it returns (fsync), so the peer is timed
twice: plain, and with the copy synced to the disk.
"""

import argparse
import hashlib
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from registry.bootstrap import open_registry
from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import write_adapter

TARGET = 1.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--megabytes", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adapters-bench-") as folder:
        report(measure(Path(folder), arguments.rounds, arguments.megabytes), arguments.megabytes)


def measure(folder: Path, rounds: int, megabytes: int) -> dict[str, list[float]]:
    """Seconds per round of each contestant."""
    registry = open_registry({"ADAPTERS_HOME": str(folder / "home")})
    times: dict[str, list[float]] = {"cp + sha256": [], "cp, fsync + sha256": [], "push": [], "pull": []}
    for number in range(rounds):
        source = write_adapter(folder / "source")
        payload = source / "vocabulary.txt"  # a content file that isn't looked into
        payload.write_bytes(os.urandom(megabytes << 20))
        os.sync()
        name = AdapterName("bench", f"round-{number}")
        contestants: dict[str, Callable[[], object]] = {
            "cp + sha256": lambda payload=payload: copy(payload, folder / "copy", durable=False),
            "cp, fsync + sha256": lambda payload=payload: copy(payload, folder / "copy", durable=True),
            "push": lambda source=source, name=name: registry.push_folder(source, Submission(name, ())),
            "pull": lambda name=name: registry.pull(registry.find_version(Reference(name)), folder / "pulled"),
        }
        for label, work in contestants.items():
            times[label].append(timed(work))
            for leftover in ("copy", "pulled"):
                path = folder / leftover
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    registry.close()
    return times


def copy(source: Path, target: Path, *, durable: bool) -> str:
    """What a careful person does by hand: copy a file, and hash it once."""
    shutil.copyfile(source, target)
    with target.open("rb+") as stream:
        if durable:
            os.fsync(stream.fileno())
        return hashlib.file_digest(stream, "sha256").hexdigest()


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def report(times: dict[str, list[float]], megabytes: int) -> None:
    medians = {label: statistics.median(values) for label, values in times.items()}
    print(f"{megabytes} MB, median of {len(times['push'])} interleaved rounds (target {TARGET} x)")
    for label, seconds in medians.items():
        print(f"  {label:20s} {1000 * seconds:7.0f} ms   {megabytes / seconds:6.0f} MB/s")
    ratios = {
        f"{ours} / {peer}": round(medians[ours] / medians[peer], 2)
        for ours in ("push", "pull")
        for peer in ("cp + sha256", "cp, fsync + sha256")
    }
    for label, ratio in ratios.items():
        print(f"  {label:28s} {ratio:5.2f} x")
    print(json.dumps({"benchmark": "transfer", "megabytes": megabytes, "seconds": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()
