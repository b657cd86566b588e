"""The schema: migrations up and down, under a lock, interrupted, and refused when they are not ours."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Connection

from registry.domain.errors import DatabaseFailure, SchemaMismatch
from registry.sql.engine import Database
from registry.sql.schema import HEAD, current, downgrade, ensure_schema, upgrade
from registry.sql.tables.everything import metadata
from tests.sql.catalog_records import publish

LONGEST_REVISION = 32  # characters that Alembic's own table keeps on PostgreSQL


@pytest.fixture
def empty(empty_database_url: str) -> Iterator[Database]:
    opened = Database(empty_database_url)
    yield opened
    opened.close()


def _tables(database: Database) -> set[str]:
    with database.connection() as connection:
        return set(inspect(connection).get_table_names())


def _stamp(database: Database, revision: str) -> None:
    with database.connection() as connection, connection.begin():
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def test_head_is_the_newest_migration() -> None:
    script = ScriptDirectory(str(files("migrations")))
    assert script.get_current_head() == HEAD
    assert all(len(revision.revision) <= LONGEST_REVISION for revision in script.walk_revisions())


def test_migrations_give_exactly_the_tables_of_the_program(database: Database) -> None:
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata()) == []


def test_an_empty_database_is_migrated_once(empty: Database) -> None:
    assert current(empty) is None
    ensure_schema(empty, migrate=True)
    assert current(empty) == HEAD
    ensure_schema(empty, migrate=False)
    assert _tables(empty) == {*metadata().tables, "alembic_version"}


def test_looking_at_an_absent_sqlite_database_creates_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new/catalog.db")
    assert current(database) is None
    assert list(tmp_path.iterdir()) == []


def test_without_migrate_an_empty_database_is_refused(empty: Database) -> None:
    with pytest.raises(SchemaMismatch) as refused:
        ensure_schema(empty, migrate=False)
    assert "older" in refused.value.message
    assert "adapters migrate" in refused.value.hint


@pytest.mark.parametrize("migrate", [True, False])
def test_an_older_program_refuses_a_newer_schema_by_name(database: Database, migrate: bool) -> None:
    _stamp(database, "2031_01_01_split_the_atom")
    with pytest.raises(SchemaMismatch) as refused:
        ensure_schema(database, migrate=migrate)
    assert "2031_01_01_split_the_atom" in refused.value.message
    assert HEAD in refused.value.message
    with pytest.raises(SchemaMismatch):
        upgrade(database)
    with pytest.raises(SchemaMismatch):
        downgrade(database, "base")


def test_down_and_up_again_leaves_the_same_tables(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    before = _tables(database)
    downgrade(database, "base")
    assert _tables(database) == {"alembic_version"}
    assert current(database) is None
    upgrade(database)
    assert _tables(database) == before
    with database.writing() as catalog:
        assert publish(catalog, "one").number == 1


def test_a_migration_interrupted_at_any_statement_leaves_nothing_and_can_run_again(empty: Database) -> None:
    interrupted = 0
    while not _survives(empty, allowed=7 * interrupted):
        interrupted += 1
        empty.close()
        assert current(empty) is None
        assert _tables(empty) == set()
    assert interrupted > len(metadata().tables) / 7
    assert current(empty) == HEAD


def _survives(database: Database, *, allowed: int) -> bool:
    _interrupt_after(database, allowed)
    try:
        upgrade(database)
    except KeyboardInterrupt:
        return False
    return True


def _interrupt_after(database: Database, allowed: int) -> None:
    left = allowed

    def count_down(_connection: Connection, _cursor: object, statement: str, *_rest: object) -> None:
        nonlocal left
        if statement.lstrip().startswith(("CREATE", "INSERT")):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

    event.listen(database.engine, "before_cursor_execute", count_down)


def test_a_migration_that_would_leave_dangling_rows_changes_nothing(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    upgrade(database)
    with database.connection() as connection:
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
        driver.execute("INSERT INTO version_targets (target, version_id) VALUES ('q', 7)")
    with pytest.raises(DatabaseFailure, match="not there"):
        upgrade(database)
    database.close()
