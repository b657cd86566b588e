"""The folder store against the disk and the hash: `python -m benchmarks.blobs [--large]`.

A put of 100 MB, and a read of it into a synced file with verification, are each compared with `cp`, an fsync and one
sha256 of the same file; a read without writing is compared with the sha256 alone. Rounds are interleaved, so that what
else the machine does hits both sides; ratios are medians over the rounds. `--large` moves 8 GB and prints its memory.
"""

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from registry.blobs.checks import verified
from registry.blobs.disk import write_file
from registry.blobs.filesystem import FolderStore
from registry.domain.digest import read_chunks, sha256_stream

MEGABYTE = 1_000_000
TARGET = 1.4
MEMORY_TARGET = 100  # MB


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


class Transfers:
    """The two sides, on one file of random bytes."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.source, self.copy, self.pulled = folder / "source", folder / "copy", folder / "pulled"
        self.store = FolderStore(folder / "store")
        with self.source.open("wb") as stream:
            for _ in range(megabytes):
                stream.write(os.urandom(MEGABYTE))
        self.sha256, self.size = self.hash()

    def hash(self) -> tuple[str, int]:
        with self.source.open("rb", buffering=0) as stream:
            return sha256_stream(stream)

    def cp_and_hash(self) -> None:
        shutil.copyfile(self.source, self.copy)
        with self.copy.open("rb") as stream:
            os.fsync(stream.fileno())
        self.hash()

    def put(self) -> None:
        with self.source.open("rb", buffering=0) as stream:
            assert self.store.put(read_chunks(stream), sha256=self.sha256, size=self.size)

    def read(self) -> None:
        with self.store.open(self.sha256) as stream:
            assert sha256_stream(stream) == (self.sha256, self.size)

    def pull(self) -> None:
        with self.store.open(self.sha256) as stream:
            chunks = verified(read_chunks(stream), sha256=self.sha256, size=self.size, subject="the blob")
            write_file(self.pulled, chunks)

    def forget(self) -> None:
        self.store.delete(self.sha256)
        self.copy.unlink(missing_ok=True)
        self.pulled.unlink(missing_ok=True)


def compare(folder: Path, megabytes: int, rounds: int) -> None:
    """Print each action's median time and its median ratio to its peer."""
    sides = Transfers(folder, megabytes)
    sides.put()
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        sides.forget()
        for name in ("cp_and_hash", "put", "pull", "hash", "read"):
            times.setdefault(name, []).append(seconds(getattr(sides, name)))
    print(f"folder store, {megabytes} MB, {rounds} interleaved rounds, target ratio <= {TARGET}")
    for name, peer in (("put", "cp_and_hash"), ("pull", "cp_and_hash"), ("read", "hash")):
        ratio = statistics.median(mine / theirs for mine, theirs in zip(times[name], times[peer], strict=True))
        mine, theirs = statistics.median(times[name]), statistics.median(times[peer])
        print(f"  {name:5} {mine:6.3f} s   {peer.replace('_', ' '):12} {theirs:6.3f} s   ratio {ratio:.2f}")


def move_large(folder: Path, gigabytes: int) -> None:
    """Print how much memory grows while a generated blob goes in through staging and comes out again."""

    def chunks() -> Iterator[bytes]:
        return (number.to_bytes(8, "little") * (MEGABYTE // 8) for number in range(gigabytes * 1000))

    digest = hashlib.sha256()
    for chunk in chunks():
        digest.update(chunk)
    store, sha256, size = FolderStore(folder / "store"), digest.hexdigest(), gigabytes * 1000 * MEGABYTE
    before = peak_memory()
    went_in = seconds(lambda: store.put(chunks(), sha256=sha256, size=size))
    with store.open(sha256) as stream:
        came_out = seconds(lambda: sha256_stream(stream))
    growth = (peak_memory() - before) / MEGABYTE
    print(f"folder store, {gigabytes} GB: in {went_in:.1f} s, out {came_out:.1f} s, ", end="")
    print(f"memory grew by {growth:.1f} MB (target <= {MEMORY_TARGET})")


def peak_memory() -> int:
    """The most that this process has had in memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blobs", description=__doc__)
    parser.add_argument("--large", action="store_true", help="move 8 GB and print the memory it takes")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder without it")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.large:
            move_large(Path(folder), 8)
        else:
            compare(Path(folder), options.megabytes, options.rounds)


if __name__ == "__main__":
    main()
