"""Look-ups over HTTP, with a token, against the same server's empty answer and against MLflow's look-up of an alias.

    python -m benchmarks.http [--sizes 10,10000] [--databases sqlite,postgresql] [--workers 1,4] [--rounds 10]
                              [--mlflow FOLDER | --without-mlflow] [--keep]

What is asked takes turns in every round, so that a slow moment of the machine hits all of it. `kept` are look-ups of
100 aliases that were asked for before; `304` come from a client that has the answer; `computed` ask for something that
nobody did, and are answered from the database; `empty` is /v1/ping, which takes a token too. MLflow is asked for 20
aliases, without a token; it is installed into an environment of its own, gone afterwards, unless --mlflow names one.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import urllib3

from benchmarks.bulk_load import populate
from benchmarks.catalog_rows import Population
from benchmarks.databases import fresh_database
from benchmarks.http_load import CLIENTS, CONNECTIONS, Figures, Load, measure
from benchmarks.http_servers import (
    MODELS,
    Served,
    adapters_server,
    mlflow_environment,
    mlflow_look_up,
    mlflow_server,
    mlflow_version,
)
from benchmarks.lookup import reference_to
from benchmarks.results import Cell, machine, save
from registry.blobs.locate import open_store
from registry.domain.reference import Reference
from registry.service import Registry
from registry.sql.engine import Database

OF_EMPTY, OF_MLFLOW = 0.5, 90.0  # times their requests/s, which kept look-ups are to reach
WARM_UP = 3.0  # seconds, in which every worker is asked for every alias
WARM_UP_OF_MLFLOW = 20.0  # its workers take so long until they are as fast as they get
HOT = 100  # aliases that are asked for again and again
COLUMNS = (
    "database",
    "versions",
    "workers",
    "asked",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU µs",
    "x empty",
    "x MLflow",
)
Row = Mapping[str, Cell]


def run(
    sizes: Sequence[int],
    databases: Sequence[str],
    workers: Sequence[int],
    *,
    rounds: int,
    mlflow: Served | None,
) -> list[Row]:
    """Measure and print; the table's rows."""
    print(f"{'':<24}" + "".join(f"{column:>12}" for column in COLUMNS[3:]), flush=True)
    rows: list[Row] = []
    for kind in databases:
        for size in sizes:
            with fresh_database(kind) as url:
                secret = _fill(url, size)
                for count in workers:
                    with adapters_server(url, count) as served:
                        figures = _measure(_loads(served, secret, size), mlflow, rounds=rounds)
                    rows += _rows(figures, {"database": kind, "versions": size, "workers": count})
    return rows


def _fill(url: str, size: int) -> str:
    database = Database(url)
    populate(database, Population(size))
    with tempfile.TemporaryDirectory() as folder:
        registry = Registry(database, open_store(f"file://{folder}"))
        secret = registry.create_token("bench", principal="bench-root", operator=True).secret
    database.close()
    return secret


def _measure(loads: Mapping[str, tuple[Load, int]], mlflow: Served | None, *, rounds: int) -> dict[str, Figures]:
    if mlflow is not None:
        loads = {**loads, "MLflow": (_load_of(mlflow), mlflow.group)}
    for load, group in loads.values():
        measure(replace(load, seconds=WARM_UP), Figures(), group=group)
    figures = {what: Figures() for what in loads}
    for _ in range(rounds):
        for what, (load, group) in loads.items():
            measure(load, figures[what], group=group)
    return figures


def _load_of(mlflow: Served) -> Load:
    asked = tuple(_request(mlflow_look_up(number)) for number in range(MODELS))
    return Load(mlflow.port, asked, seconds=1.0)


def _loads(served: Served, secret: str, size: int) -> dict[str, tuple[Load, int]]:
    hot = min(HOT, size)
    paths = [_path(reference_to(index * size // hot, "alias")) for index in range(hot)]
    token = f"Authorization: Bearer {secret}\r\n"
    tags = [_tag(served.port, secret, path) for path in paths]
    seen = tuple(_request(path, f"{token}If-None-Match: {tag}\r\n") for path, tag in zip(paths, tags, strict=True))
    loads = {
        "empty": Load(served.port, (_request("/v1/ping", token),)),
        "kept": Load(served.port, tuple(_request(path, token) for path in paths)),
        "304": Load(served.port, seen, 304),
        "computed": Load(served.port, tuple(_request(f"{path}&max_rank=1{{n}}", token) for path in paths)),
    }
    return {what: (load, served.group) for what, load in loads.items()}


def _request(path: str, headers: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n"


def _path(reference: Reference) -> str:
    return f"/v1/adapters/{reference.adapter}/resolve?ref={reference.value}"


def _tag(port: int, secret: str, path: str) -> str:
    url = f"http://127.0.0.1:{port}{path}"
    return urllib3.request("GET", url, headers={"Authorization": f"Bearer {secret}"}).headers["ETag"]


def _rows(figures: Mapping[str, Figures], of: Row) -> list[Row]:
    found = []
    for what, measured in figures.items():
        row: dict[str, Cell] = {
            **of,
            "asked": what,
            "requests/s": round(measured.rate),
            "p50 ms": measured.percentile(50),
            "p99 ms": measured.percentile(99),
            "CPU µs": round(measured.cpu_each),
            "x empty": measured.times_of(figures["empty"]),
            "x MLflow": measured.times_of(figures["MLflow"]) if "MLflow" in figures else None,
        }
        cells = (row[column] for column in COLUMNS[3:])
        texts = (f"{cell:.2f}" if isinstance(cell, float) else str(cell or "") for cell in cells)
        place = f"{of['database']:<11}{of['versions']:>10,} x{of['workers']}"
        print(f"{place:<24}" + "".join(f"{text:>12}" for text in texts), flush=True)
        found.append(row)
    return found


def missed(rows: Sequence[Row]) -> list[str]:
    """Where kept look-ups did not reach what they were to reach."""
    found = []
    for row in rows:
        place = f"{row['database']}, {row['versions']:,} versions, {row['workers']} workers"
        for column, least in (("x empty", OF_EMPTY), ("x MLflow", OF_MLFLOW)):
            ratio = row[column]
            if row["asked"] == "kept" and isinstance(ratio, float) and ratio < least:
                found.append(f"{place}: {ratio:.2f} {column} is less than {least}")
    return found


def main() -> int:
    given = _arguments()
    sizes, workers = ([int(number) for number in text.split(",")] for text in (given.sizes, given.workers))
    with ExitStack() as stack:
        mlflow, told = None, ""
        if not given.without_mlflow:
            program = stack.enter_context(mlflow_environment(given.mlflow))
            mlflow, told = stack.enter_context(mlflow_server(program)), f"MLflow {mlflow_version(program)}, "
            measure(replace(_load_of(mlflow), seconds=WARM_UP_OF_MLFLOW), Figures(), group=mlflow.group)
        rows = run(sizes, given.databases.split(","), workers, rounds=given.rounds, mlflow=mlflow)
    notes = [
        f"{told}{CLIENTS} client processes of {CONNECTIONS} connections each share {machine()['cores']} cores with the "
        "servers: requests/s are what that leaves them; CPU µs are the server's own processor time for one request.",
        "`kept` is to reach 0.5 x empty and 90 x MLflow (its four workers by default; no tokens). `computed` is never "
        "kept: what a look-up costs that nobody asked for since its adapter changed.",
        f"{given.rounds} rounds, in which all take turns; ratios are medians over the rounds.",
    ]
    lines = missed(rows)
    print("\n".join(lines) or "every target is reached")
    if given.keep:
        packages = ("fastapi", "uvicorn", "httptools", "uvloop", "sqlalchemy", "psycopg")
        save("http", rows, COLUMNS, title="Look-ups over HTTP", notes=notes, packages=packages)
    return 1 if lines else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look-ups over HTTP against an empty answer and against MLflow.")
    parser.add_argument("--sizes", default="10,10000,1000000", help="numbers of versions, by commas")
    parser.add_argument("--databases", default="sqlite,postgresql", help="sqlite, postgresql or both, by commas")
    parser.add_argument("--workers", default="1,4", help="numbers of worker processes, by commas")
    parser.add_argument("--rounds", type=int, default=10, help="measurements of each kind")
    parser.add_argument("--mlflow", type=Path, help="an environment that has MLflow, instead of a new one")
    parser.add_argument("--without-mlflow", action="store_true", help="compare with the empty answer only")
    parser.add_argument("--keep", action="store_true", help="write the table to benchmarks/results/")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
