"""The database: one engine, read transactions that see one snapshot, write transactions that commit whole.

SQLite runs in WAL (set when the schema is created) with synchronous=FULL, so that what was acknowledged survives a
power loss; a write transaction takes the write lock at its start. PostgreSQL reads in REPEATABLE READ and writes in
READ COMMITTED under row locks, taken in one order:

    quota → principal, namespace → adapter → blobs → version → alias → event counter

The counter's lock orders all writers, so events are appended as late as possible.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.event import listen
from sqlalchemy.exc import ArgumentError

from registry.domain.errors import InvalidSetting
from registry.sql.catalog import Catalog
from registry.sql.changes import Changes, FileChanges, SharedChanges
from registry.sql.failures import translated
from registry.sql.founding import FOUNDED

BUSY_SECONDS = 60.0
_SETTING = "ADAPTERS_DATABASE_URL"
_POOL_SIZE = 5
_MOST_FILES = 40  # as many as a server has threads: opening a file anew for a look-up costs more than the look-up
_WRITES = "adapters_writes"  # execution option of a connection that is about to write


class Database:
    """A SQLite file or a PostgreSQL database. Makes no connection before it is used; safe between threads."""

    def __init__(self, url: str) -> None:
        """Raises InvalidSetting for a URL that is neither `sqlite:///FILE` nor `postgresql+psycopg://…`."""
        self._url = _parse(url)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._changes: Changes | None = None

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @property
    def path(self) -> Path:
        """The file of an SQLite database."""
        assert self._url.database is not None
        return Path(self._url.database)

    @property
    def engine(self) -> Engine:
        """The engine, built at first use. For this room and its migrations only."""
        with self._lock:
            if self._engine is None:
                self._engine = _sqlite_engine(self._url) if self.is_sqlite else _postgresql_engine(self._url)
            return self._engine

    @property
    def changes(self) -> Changes:
        """Marks of its state, for those who keep answers."""
        with self._lock:
            if self._changes is None:
                whole = self._url.set(password=None).render_as_string()
                self._changes = FileChanges(self.path) if self.is_sqlite else SharedChanges(whole)
            return self._changes

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """One read transaction: everything in it is seen as of one moment. Raises DatabaseFailure."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with translated(), self.connection(**options) as connection, connection.begin():
            yield Catalog(connection)

    @contextmanager
    def writing(self) -> Iterator[Catalog]:
        """One write transaction: committed when the block ends, rolled back on any error. Raises DatabaseFailure."""
        try:
            options = {_WRITES: True, FOUNDED: []}
            with translated(), self.connection(**options) as connection, connection.begin():
                yield (catalog := Catalog(connection))
                catalog.events.tell_founded()
        finally:
            self.changes.moved()  # after an error too: a commit whose answer was lost may have happened

    @contextmanager
    def connection(self, **options: Any) -> Iterator[Connection]:
        """A connection with execution options, not yet in a transaction."""
        if self.is_sqlite:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.engine.connect() as connection:
            yield connection.execution_options(**options) if options else connection

    def close(self) -> None:
        """Close every pooled connection. The database may be used again."""
        with self._lock:
            engine, self._engine = self._engine, None
            changes, self._changes = self._changes, None
        if engine is not None:
            engine.dispose()
        if changes is not None:
            changes.close()


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except ArgumentError:
        raise InvalidSetting(_SETTING, "(unreadable)", "not a database URL") from None
    shown = url.render_as_string(hide_password=True)
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        if not url.database or url.database == ":memory:" or url.query:
            raise InvalidSetting(_SETTING, shown, "an SQLite database is a file: sqlite:///FILE, without options")
        return url
    if url.get_backend_name() != "postgresql":
        raise InvalidSetting(_SETTING, shown, "write sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE")
    if url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise InvalidSetting(_SETTING, shown, "the driver for PostgreSQL is psycopg: postgresql+psycopg://…")
    return url.set(drivername="postgresql+psycopg")


def _sqlite_engine(url: URL) -> Engine:
    # The driver must not open transactions by itself: we say when, and whether they will write.
    engine = create_engine(
        url,
        connect_args={"isolation_level": None, "timeout": BUSY_SECONDS, "check_same_thread": False},
        pool_size=_MOST_FILES,
        hide_parameters=True,
    )
    listen(engine, "connect", _prepare_sqlite)
    listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql_engine(url: URL) -> Engine:
    return create_engine(url, pool_size=_POOL_SIZE, max_overflow=10, pool_pre_ping=True, hide_parameters=True)
