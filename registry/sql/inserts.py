"""Inserts that lose a race gracefully: the one statement that SQLite and PostgreSQL spell alike but SQLAlchemy
keeps apart.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Table, insert
from sqlalchemy.engine import Connection


def insert_absent(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Insert the rows that no unique key of the table forbids; returns how many of a single row went in (0 or 1).

    On PostgreSQL it waits for a concurrent transaction that inserts the same key, so pass many rows sorted by key:
    two transactions then wait for each other in one direction only.
    """
    if not rows:
        return 0
    statement: Any
    if connection.dialect.name == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert  # lazy: start-up time

        statement = sqlite_insert(table).on_conflict_do_nothing()
    else:
        from sqlalchemy.dialects.postgresql import insert as postgresql_insert  # lazy: start-up time

        statement = postgresql_insert(table).on_conflict_do_nothing()
    if len(rows) == 1:
        # psycopg has no rowcount for an insert whose key SQLAlchemy asks back; what is returned went in.
        return len(connection.execute(statement.returning(*table.primary_key), rows[0]).all())
    return connection.execute(statement, rows).rowcount


def insert_all(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows; nothing happens for none."""
    if rows:
        connection.execute(insert(table), rows)
