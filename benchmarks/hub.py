"""An unmodified Hugging Face client at our server: a pull against a bare static server, a push by Xet against LFS.

    python -m benchmarks.hub [--rounds N] [--megabytes N] [--keep]

Pulls of the same adapter take turns, into an empty cache each; pushes are of fresh bytes each, by Xet and by LFS in
turns. Our server is `adapters serve` as it is used, with SQLite and a folder. Then requests are counted that PEFT makes
for an adapter that it has: by commit, by version and by alias.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.databases import fresh_database
from benchmarks.http_servers import adapters_server
from benchmarks.results import Cell, save
from registry.blobs.locate import open_store
from registry.service import Registry
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.factories import EXAMPLES, minilm_folder, toy_base
from tests.hub.clients import Client, client_of
from tests.hub.environments import NEWEST
from tests.hub.wide import RANK_BYTES, WIDE, WIDTH, wide_adapter
from tests.hub.wire import wire_to

OF_STATIC, OF_LFS = 1.3, 1.5  # times their seconds, which ours may take
COLUMNS = ("what", "contender", "median s", "best s", "MB/s", "ratio", "target", "met", "requests")
LFS = {"HF_HUB_DISABLE_XET": "1"}
Row = dict[str, Cell]


@dataclass(frozen=True)
class Bench:
    """Our server, and a folder for what is moved."""

    folder: Path
    url: str
    token: str
    rank: int

    def pulls(self, rounds: int) -> list[Row]:
        """The same adapter from our server and from a bare one, each time into an empty cache."""
        source = wide_adapter(self.folder / "source", self.rank)
        size = sum(path.stat().st_size for path in source.iterdir())
        seconds: dict[str, list[float]] = {"static server": [], "ours": []}
        with self._client() as client, _static(source) as static:
            client.do("timed.push", repo="bench/pull", folder=source)
            for _ in range(rounds):
                for who, url in {"static server": static, "ours": self.url}.items():
                    seconds[who].append(client.do("timed.pull", endpoint=url, repo="bench/pull", cache=self._cache))
                    shutil.rmtree(self._cache)
        return _rows("snapshot_download", seconds, size, most=OF_STATIC)

    def pushes(self, rounds: int) -> list[Row]:
        """Fresh bytes each time, by LFS and by Xet in turns."""
        seconds: dict[str, list[float]] = {"LFS": [], "Xet": []}
        size = 0
        with self._client(**LFS) as lfs, self._client() as xet:
            for number in range(rounds):
                for shift, (way, client) in enumerate({"LFS": lfs, "Xet": xet}.items()):
                    source = wide_adapter(self.folder / "fresh", self.rank, seed=1 + 2 * number + shift)
                    size = sum(path.stat().st_size for path in source.iterdir())
                    os.sync()
                    seconds[way].append(client.do("timed.push", repo=f"bench/{way}-{number}", folder=source))
        return _rows("upload_folder", seconds, size, most=OF_LFS)

    def requests(self) -> list[Row]:
        """How often PEFT asks for an adapter that it has."""
        adapter, base = EXAMPLES / "minilm-sentiment-r8", minilm_folder()
        rows: list[Row] = []
        with wire_to(self.url) as wire, self._client(HF_ENDPOINT=wire.url) as client:
            commit = client.do("hub.upload", repo="bench/peft", folder=adapter)
            client.do("hub.branch", repo="bench/peft", name="production", revision="v1")
            for kind, revision in {"commit": commit, "version": "v1", "alias": "production"}.items():
                client.do("peft.load", base=base, adapter="bench/peft", revision=revision)
                wire.requests.clear()
                client.do("peft.load", base=base, adapter="bench/peft", revision=revision)
                count = len(wire.requests)
                row: Row = {"what": "cached from_pretrained", "contender": f"by {kind}", "requests": count}
                needed = {"target": "1 request", "met": _yes(count <= 1)}  # PEFT always asks whether the file is there
                rows.append(row | (needed if kind == "commit" else {}))
        return rows

    @property
    def _cache(self) -> Path:
        return self.folder / "cache"

    def _client(self, **settings: str) -> AbstractContextManager[Client]:
        return client_of(NEWEST, self.url, self.token, self.folder / "home", **settings)


@contextmanager
def _static(source: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "benchmarks.hub_static", str(source)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def _prepare(url: str, folder: Path) -> str:
    """Register the bases; returns an operator's token."""
    database = Database(url)
    ensure_schema(database, migrate=True)
    registry = Registry(database, open_store((folder / "unused").as_uri()))
    registry.add_base(WIDE, toy_base("wide", WIDTH))
    registry.create_team("bench")
    secret = registry.create_token("bench", principal="bench-root", operator=True).secret
    database.close()
    return secret


def _rows(what: str, seconds: Mapping[str, Sequence[float]], size: int, *, most: float) -> list[Row]:
    """A line for each contender; the first is what the last is compared with."""
    peer, ours = seconds
    ratio = statistics.median(mine / theirs for mine, theirs in zip(seconds[ours], seconds[peer], strict=True))
    rows = []
    for who, taken in seconds.items():
        median = statistics.median(taken)
        row: Row = {"what": what, "contender": who, "median s": median, "best s": min(taken)}
        rows.append(row | {"MB/s": round(size / 1e6 / median)})
    rows[-1] |= {"ratio": ratio, "target": f"≤ {most} x", "met": _yes(ratio <= most)}
    return rows


def _yes(met: bool) -> str:
    return "yes" if met else "no"


def _print(rows: Sequence[Row]) -> None:
    for row in rows:
        cells = (row.get(column) for column in COLUMNS)
        print("  ".join(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells if cell is not None))


def main() -> int:
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="adapters-bench-") as place, ExitStack() as stack:
        url = stack.enter_context(fresh_database("sqlite"))
        token = _prepare(url, Path(place))
        port = stack.enter_context(adapters_server(url, workers=1)).port
        bench = Bench(Path(place), f"http://127.0.0.1:{port}", token, given.megabytes * 1_000_000 // RANK_BYTES)
        rows = [*bench.pulls(given.rounds), *bench.pushes(given.rounds), *bench.requests()]
    _print(rows)
    if given.keep:
        notes = [
            f"{given.rounds} rounds of {given.megabytes} MB, in which both take turns; ratios are medians of theirs",
            "static server: sendfile, no token, no database; pushes are of fresh bytes, until the version is there",
            "requests: of PeftModel.from_pretrained, for an adapter that is in the cache",
        ]
        packages = ("huggingface-hub", "hf-xet", "peft", "uvicorn")
        save("hub", rows, COLUMNS, title="An unmodified Hugging Face client", notes=notes, packages=packages)
    return 1 if any(row.get("met") == "no" for row in rows) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each kind")
    parser.add_argument("--megabytes", type=int, default=100, help="the adapter's size")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
