"""Driver errors said in our words. No SQL, parameter or driver text ever reaches a message."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, SQLAlchemyError

from registry.domain.errors import DatabaseFailure

_UNKNOWN = "it refused a statement; the log of the database says why"

# SQLite's primary result codes. Source: https://www.sqlite.org/rescode.html
_SQLITE = {
    "SQLITE_BUSY": "another process kept it locked for too long",
    "SQLITE_LOCKED": "another process kept it locked for too long",
    "SQLITE_CANTOPEN": "its file can't be opened or created",
    "SQLITE_PERM": "its file may not be read",
    "SQLITE_READONLY": "its file is read-only",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_IOERR": "reading or writing its file failed",
    "SQLITE_CORRUPT": "its file is damaged; restore it from a backup",
    "SQLITE_NOTADB": "its file is not an SQLite database",
    "SQLITE_CONSTRAINT": "a change would have broken one of its integrity rules",
}

# Classes of SQLSTATE. Source: PostgreSQL documentation, appendix A.
_POSTGRESQL = {
    "08": "the connection broke",
    "0A": "it is too old or can't do what is asked",
    "22": "it refused a value",
    "23": "a change would have broken one of its integrity rules",
    "25": "it only accepts reads",
    "28": "it refused the user or password",
    "3D": "there is no database of that name",
    "40": "two changes were in each other's way; repeat the command",
    "42": "its tables are not those of this program; run `adapters migrate`, and check the user's rights",
    "53": "it is out of disk space, memory or connections",
    "55": "another process kept it locked for too long",
    "57": "it is shutting down or starting up",
    "58": "reading or writing its files failed",
}


@contextmanager
def translated() -> Iterator[None]:
    """Turn any error of SQLAlchemy or its drivers that leaves this block into DatabaseFailure."""
    try:
        yield
    except SQLAlchemyError as error:
        raise DatabaseFailure(reason_of(error)) from error


def reason_of(error: SQLAlchemyError) -> str:
    """What went wrong, from the driver's code alone."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    name = getattr(origin, "sqlite_errorname", None)
    if name:
        return _sqlite_reason(name)
    state = getattr(origin, "sqlstate", None)
    if state:
        return _POSTGRESQL.get(state[:2], _UNKNOWN)
    if isinstance(error, DataError):
        return _POSTGRESQL["22"]
    if isinstance(error, DBAPIError) and (error.connection_invalidated or type(error).__name__ == "OperationalError"):
        return "it can't be reached"
    return _UNKNOWN


def _sqlite_reason(name: str) -> str:
    # Extended codes prolong primary ones: SQLITE_BUSY_SNAPSHOT, SQLITE_CONSTRAINT_UNIQUE.
    primary = "_".join(name.split("_")[:2])
    if name == "SQLITE_ERROR":
        return "its tables are not those of this program; run `adapters migrate`"
    return _SQLITE.get(primary, _UNKNOWN)
