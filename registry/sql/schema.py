"""The schema's revision: checking it on every start, and bringing it to the newest one under a lock.

The check is one SELECT; Alembic is imported only when there is something to do. A migration is one transaction on both
databases, so that an interrupted one leaves nothing behind.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from registry.domain.errors import DatabaseFailure, SchemaMismatch
from registry.sql.engine import Database
from registry.sql.failures import translated

HEAD = "2026_11_22_collection"

_REVISION = text("SELECT version_num FROM alembic_version")
_LOCK = 0x61646170746572  # "adapter": the advisory lock of migrations
_NO_TABLE = "42P01"


def ensure_schema(database: Database, *, migrate: bool) -> None:
    """Check that the database has the schema of this program; with `migrate`, bring it there.

    Any number of processes may call this at once, on a database that doesn't exist yet too. Raises SchemaMismatch for
    a schema that this program doesn't know, or an older one without `migrate`; DatabaseFailure.
    """
    found = current(database)
    if found == HEAD:
        return
    _refuse_unknown(found)
    if not migrate:
        raise SchemaMismatch("it is older", found or "none", HEAD)
    _migrate(database, "upgrade", HEAD)


def current(database: Database) -> str | None:
    """The revision of a database; None if it is empty or absent. Creates nothing."""
    if database.is_sqlite and not database.path.exists():
        return None
    with translated(), database.connection() as connection:
        return _revision(connection)


def upgrade(database: Database, revision: str = "head") -> None:
    """Bring a database up to a revision. Raises SchemaMismatch if its schema is unknown to this program."""
    _migrate(database, "upgrade", HEAD if revision == "head" else revision)


def downgrade(database: Database, revision: str) -> None:
    """Bring a database down to a revision; `base` removes every table and all that they hold."""
    _migrate(database, "downgrade", revision)


def _refuse_unknown(found: str | None) -> None:
    if found is None or found == HEAD:
        return
    from alembic.script import ScriptDirectory  # lazy: start-up time

    known = {script.revision for script in ScriptDirectory(str(_folder())).walk_revisions()}
    if found not in known:
        raise SchemaMismatch("it is newer than this program", found, HEAD)


def _migrate(database: Database, direction: str, revision: str) -> None:
    lock = _sqlite_lock if database.is_sqlite else _postgresql_lock
    with translated(), lock(database) as connection:
        found = _revision(connection)
        if found == revision:  # somebody else was first
            return
        _refuse_unknown(found)
        _run(connection, direction, revision)


def _run(connection: Connection, direction: str, revision: str) -> None:
    from alembic import command  # lazy: start-up time
    from alembic.config import Config  # lazy: start-up time

    config = Config()
    config.set_main_option("script_location", str(_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    step = command.upgrade if direction == "upgrade" else command.downgrade
    step(config, revision)


def _folder() -> Path:
    return Path(str(files("migrations")))


def _revision(connection: Connection) -> str | None:
    # PostgreSQL ends a transaction, or this part of one, at the first error.
    try:
        with connection.begin_nested() if connection.in_transaction() else connection.begin():
            found: str | None = connection.scalar(_REVISION)
            return found
    except DBAPIError as error:
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_ERROR":
            return None
        if getattr(error.orig, "sqlstate", "") == _NO_TABLE:
            return None
        raise


@contextmanager
def _sqlite_lock(database: Database) -> Iterator[Connection]:
    """A write transaction, under flock on a file beside the database: its first switch to WAL can't be shared."""
    path = database.path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with database.connection(adapters_writes=True) as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA journal_mode=WAL")
            # Rebuilding a table drops it, which must not delete what refers to it; checked at the end instead.
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    _check_references(connection)
            finally:
                connection.invalidate()  # the pool must never hand out one that checks no references


def _check_references(connection: Connection) -> None:
    if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
        raise DatabaseFailure("after the migration rows would refer to rows that are not there; nothing was changed")


@contextmanager
def _postgresql_lock(database: Database) -> Iterator[Connection]:
    """A transaction that holds the migrations' advisory lock until it ends."""
    with database.connection() as connection, connection.begin():
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        yield connection
