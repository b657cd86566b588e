"""Loading a catalog in bulk: COPY into PostgreSQL, executemany into SQLite, secondary indexes at the end."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any

from sqlalchemy import JSON, Table
from sqlalchemy.engine import Connection, default

from benchmarks.catalog_rows import Population
from registry.sql.engine import Database
from registry.sql.schema import upgrade
from registry.sql.tables.base import CompressedJson, UtcDateTime
from registry.sql.tables.everything import metadata

BATCH = 50_000  # rows
Convert = Callable[[Any], Any]


def populate(database: Database, population: Population) -> None:
    """Create the schema and load a catalog into an empty database. Foreign keys are not checked meanwhile."""
    upgrade(database)
    load = _load_sqlite if database.is_sqlite else _load_postgresql
    with database.connection(adapters_writes=True) as connection:
        load(connection, population)


def _load_sqlite(connection: Connection, population: Population) -> None:
    driver: Any = connection.connection.driver_connection
    for pragma in ("foreign_keys=OFF", "synchronous=OFF", "cache_size=-1000000"):
        driver.execute(f"PRAGMA {pragma}")
    with connection.begin(), _without_indexes(connection):
        for table, rows in population.tables():
            columns = ", ".join(f'"{column.name}"' for column in table.columns)
            marks = ", ".join("?" for _ in table.columns)
            values = _values(table, rows, _sqlite_converters(table))
            while batch := list(islice(values, BATCH)):
                driver.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", batch)
    driver.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.invalidate()


def _load_postgresql(connection: Connection, population: Population) -> None:
    with connection.begin():
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        connection.exec_driver_sql("SET LOCAL maintenance_work_mem = '512MB'")
        driver: Any = connection.connection.driver_connection
        with _without_indexes(connection), driver.cursor() as cursor:
            for table, rows in population.tables():
                columns = ", ".join(f'"{column.name}"' for column in table.columns)
                with cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
                    for row in _values(table, rows, _postgresql_converters(table)):
                        copy.write_row(row)
    driver.autocommit = True
    driver.execute("VACUUM ANALYZE")
    driver.autocommit = False


@contextmanager
def _without_indexes(connection: Connection) -> Iterator[None]:
    indexes = [index for table in metadata().sorted_tables for index in table.indexes]
    for index in indexes:
        index.drop(connection)
    yield
    for index in indexes:
        index.create(connection)


def _values(table: Table, rows: Iterable[dict[str, Any]], convert: dict[str, Convert]) -> Iterator[tuple[Any, ...]]:
    """Of each row its values in the table's order; what it doesn't say of a column that may be NULL is NULL."""
    ordered = itemgetter(*(column.name for column in table.columns))
    unsaid = {column.name: None for column in table.columns if column.nullable}
    for row in rows:
        whole = unsaid | row
        for name, converted in convert.items():
            whole[name] = None if whole[name] is None else converted(whole[name])
        yield ordered(whole)


def _sqlite_converters(table: Table) -> dict[str, Convert]:
    times = {column.name: _sqlite_time for column in table.columns if isinstance(column.type, UtcDateTime)}
    return {**_json_converters(table), **times}


def _postgresql_converters(table: Table) -> dict[str, Convert]:
    return _json_converters(table)


def _json_converters(table: Table) -> dict[str, Convert]:
    found: dict[str, Convert] = {}
    for column in table.columns:
        if isinstance(column.type, JSON):
            found[column.name] = json.dumps
        elif isinstance(column.type, CompressedJson):
            found[column.name] = partial(column.type.process_bind_param, dialect=default.DefaultDialect())
    return found


def _sqlite_time(moment: datetime) -> str:
    return moment.isoformat(" ", "microseconds")[:26]  # without the offset, as SQLAlchemy stores it
