"""Look-ups over HTTP, with a token, against the same server's empty answer, which takes a token too.

    python -m benchmarks.http [--sizes 10,10000] [--databases sqlite,postgresql] [--workers 1,4] [--rounds 10]

What is asked takes turns in every round, so that a slow moment of the machine hits all of it. `kept` are look-ups of
aliases that were asked for before; `computed` ask for something that nobody did, and are answered from the database;
`304` come from a client that has the answer. `healthz` is an answer without a token. Requests come from processes of
their own over raw sockets that stay open, several at a time, so that the server is never waiting for them; the clients
share the machine's cores with it.
"""

import argparse
import itertools
import multiprocessing
import os
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import urllib3

from benchmarks.bulk_load import populate
from benchmarks.catalog_rows import Population
from benchmarks.databases import fresh_database
from benchmarks.lookup import reference_to
from registry.domain.reference import Reference
from registry.service import Registry
from registry.sql.engine import Database

TARGET = 0.5  # of the empty answer's requests/s
CLIENTS = 2  # processes
CONNECTIONS = 8  # of each, which have a request under way at once
SECONDS = 0.4  # of one measurement
HOT = 100  # aliases that are asked for again and again


@dataclass
class Figures:
    """Requests/s of each round, and latencies in seconds."""

    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def percentile(self, percent: int) -> float:
        return statistics.quantiles(self.times, n=100, method="inclusive")[percent - 1] * 1e3


@dataclass(frozen=True)
class Load:
    """Where requests go, and which: one after the other, again and again; `{n}` becomes a number that is new."""

    port: int
    requests: tuple[str, ...]
    status: int


def run(sizes: Sequence[int], databases: Sequence[str], workers: Sequence[int], *, rounds: int) -> bool:
    """Measure and print; whether every kept look-up reached the target."""
    heads = f"{'database':<12}{'versions':>10}{'workers':>9}  {'asked':<10}{'requests/s':>12}{'p50 ms':>8}{'p99 ms':>8}"
    print(f"\n{heads}{'of empty':>10}   (target >= {TARGET} for kept)", flush=True)
    reached = True
    for kind, size in itertools.product(databases, sizes):
        with fresh_database(kind) as url:
            secret = _fill(url, size)
            for count in workers:
                with _served(url, count) as port:
                    figures = _measure(port, secret, size, rounds=rounds)
                reached &= _print(kind, size, count, figures)
    return reached


def _fill(url: str, size: int) -> str:
    database = Database(url)
    populate(database, Population(size))
    with tempfile.TemporaryDirectory() as folder:
        from registry.blobs.locate import open_store

        registry = Registry(database, open_store(f"file://{folder}"))
        secret = registry.create_token("bench", principal="bench-root", operator=True).secret
    database.close()
    return secret


@contextmanager
def _served(url: str, workers: int) -> Iterator[int]:
    """So many worker processes behind one socket."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    listening.set_inheritable(True)
    port = listening.getsockname()[1]
    with tempfile.TemporaryDirectory() as blobs:
        command = [sys.executable, "-m", "benchmarks.http_worker", url, blobs, str(listening.fileno()), str(port)]
        processes = [subprocess.Popen(command, pass_fds=[listening.fileno()]) for _ in range(workers)]
        listening.close()
        try:
            retries = urllib3.Retry(40, backoff_factor=0.1, backoff_max=1)
            for _ in range(4 * workers):
                urllib3.request("GET", f"http://127.0.0.1:{port}/healthz", retries=retries)
            time.sleep(workers)  # the others come up too
            yield port
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def _measure(port: int, secret: str, size: int, *, rounds: int) -> dict[str, Figures]:
    loads = _loads(port, secret, size)
    figures = {what: Figures() for what in loads}
    for number in range(rounds + 1):
        for what, load in loads.items():
            rate, times = _under_load(load)
            if number:  # the first round warms up
                figures[what].rates.append(rate)
                figures[what].times.extend(times)
    return figures


def _loads(port: int, secret: str, size: int) -> dict[str, Load]:
    references = [reference_to(index * size // min(HOT, size), "alias") for index in range(min(HOT, size))]
    paths = [_path(reference) for reference in references]
    request = "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + secret + "\r\n{more}\r\n"
    tags = [_tag(port, secret, path) for path in paths]
    return {
        "healthz": Load(port, (request.format(path="/healthz", more=""),), 200),
        "empty": Load(port, (request.format(path="/v1/ping", more=""),), 200),
        "kept": Load(port, tuple(request.format(path=path, more="") for path in paths), 200),
        "304": Load(
            port,
            tuple(
                request.format(path=path, more=f"If-None-Match: {tag}\r\n")
                for path, tag in zip(paths, tags, strict=True)
            ),
            304,
        ),
        "computed": Load(port, tuple(request.format(path=f"{p}&max_rank=1{{n}}", more="") for p in paths), 200),
    }


def _path(reference: Reference) -> str:
    return f"/v1/adapters/{reference.adapter}/resolve?ref={reference.value}"


def _tag(port: int, secret: str, path: str) -> str:
    url = f"http://127.0.0.1:{port}{path}"
    return urllib3.request("GET", url, headers={"Authorization": f"Bearer {secret}"}).headers["ETag"]


def _under_load(load: Load) -> tuple[float, list[float]]:
    """Requests/s over all clients, and how long each took."""
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        done = pool.map(_client, [load] * CLIENTS, chunksize=1)
    return sum(len(times) / seconds for times, seconds in done), [time for times, _ in done for time in times]


def _client(load: Load) -> tuple[list[float], float]:
    """Keep every connection busy for a while."""
    connections = [socket.create_connection(("127.0.0.1", load.port)) for _ in range(CONNECTIONS)]
    turn, times, unique = itertools.count(secrets.randbelow(HOT)), [], secrets.randbelow(10**6) + 10**6
    expected = f"HTTP/1.1 {load.status}".encode()
    started_at = time.perf_counter()
    while time.perf_counter() - started_at < SECONDS:
        sent = []
        for connection in connections:
            number = next(turn)
            text = load.requests[number % len(load.requests)].replace("{n}", str(unique + number))
            sent.append(time.perf_counter())
            connection.sendall(text.encode())
        for connection, at in zip(connections, sent, strict=True):
            answer = _answer(connection)
            times.append(time.perf_counter() - at)
            assert answer.startswith(expected), answer[:200]
    seconds = time.perf_counter() - started_at
    for connection in connections:
        connection.close()
    return times, seconds


def _answer(connection: socket.socket) -> bytes:
    answer = connection.recv(65536)
    while (end := answer.find(b"\r\n\r\n")) < 0:
        answer += connection.recv(65536)
    at = answer.find(b"content-length: ", 0, end)
    length = int(answer[at + 16 : answer.find(b"\r\n", at)]) if at >= 0 else 0
    while len(answer) < end + 4 + length:
        answer += connection.recv(65536)
    return answer


def _print(kind: str, size: int, workers: int, figures: dict[str, Figures]) -> bool:
    for what, found in figures.items():
        rounds = zip(found.rates, figures["empty"].rates, strict=True)
        ratio = statistics.median(rate / empty for rate, empty in rounds)
        rate = statistics.median(found.rates)
        line = f"{kind:<12}{size:>10,}{workers:>9}  {what:<10}{rate:>12,.0f}"
        print(f"{line}{found.percentile(50):>8.2f}{found.percentile(99):>8.2f}{ratio:>10.2f}", flush=True)
        if what == "kept":
            reached = ratio >= TARGET
    return reached


def main() -> int:
    parser = argparse.ArgumentParser(description="Look-ups over HTTP against the server's empty answer.")
    parser.add_argument("--sizes", default="10,10000", help="numbers of versions, by commas")
    parser.add_argument("--databases", default="sqlite,postgresql", help="sqlite, postgresql or both, by commas")
    parser.add_argument("--workers", default="1,4", help="numbers of worker processes, by commas")
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each kind")
    given = parser.parse_args()
    sizes, workers = ([int(n) for n in text.split(",")] for text in (given.sizes, given.workers))
    print(f"{os.cpu_count()} cores, {CLIENTS} clients of {CONNECTIONS} connections")
    return 0 if run(sizes, given.databases.split(","), workers, rounds=given.rounds) else 1


if __name__ == "__main__":
    sys.exit(main())
