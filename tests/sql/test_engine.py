"""The database: URLs, transactions, snapshots, and failures in our own words."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from registry.domain.errors import DatabaseFailure, InvalidSetting
from registry.domain.reference import Reference
from registry.sql import engine
from registry.sql.engine import Database
from registry.sql.schema import current, upgrade
from tests.sql.catalog_records import NAME, at, promote, publish

SQL_WORDS = ("select", "insert", "update", "sqlite3", "psycopg", "sqlalche", "versions", "table ")


def _assert_ours(failure: DatabaseFailure) -> None:
    assert not [word for word in SQL_WORDS if word in failure.message.lower()]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///a.db?mode=ro",
        "mysql://host/db",
        "postgresql+psycopg2://host/db",
        "postgresql+asyncpg://host/db",
        "sqlite+aiosqlite:///a.db",
    ],
)
def test_a_url_that_is_neither_is_refused(url: str) -> None:
    with pytest.raises(InvalidSetting, match="ADAPTERS_DATABASE_URL"):
        Database(url)


def test_a_password_in_a_refused_url_is_not_shown() -> None:
    with pytest.raises(InvalidSetting) as refused:
        Database("mysql://ann:secret@host/db")
    assert "secret" not in refused.value.message


def test_building_a_database_touches_nothing(tmp_path: Path) -> None:
    Database(f"sqlite:///{tmp_path}/new/catalog.db").close()
    Database("postgresql://nobody@host.invalid/db").close()
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_a_new_sqlite_file_is_the_owner_s_alone(tmp_path: Path) -> None:
    upgrade(Database(f"sqlite:///{tmp_path}/home/catalog.db"))
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_sqlite_keeps_what_it_acknowledged_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    upgrade(database)
    full, wal = 2, "wal"
    with database.connection() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == [wal, full, 1]
    database.close()


def test_an_error_rolls_everything_back(database: Database) -> None:
    with pytest.raises(KeyError), database.writing() as catalog:
        publish(catalog, "one")
        raise KeyError
    with database.reading() as catalog:
        assert catalog.adapters.find(NAME) is None
        assert catalog.blobs.possessed("demo", ["0"]) == set()


def test_a_read_transaction_sees_one_moment(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        promote(catalog, 1)
    reference = Reference.parse("demo/sentiment@production")
    with database.reading() as catalog:
        before = catalog.versions.find_alias(reference)
        writer = threading.Thread(target=_publish_and_promote, args=(database,))
        writer.start()
        writer.join()
        assert catalog.versions.find_alias(reference) == before
        assert len(catalog.versions.list(NAME).items) == 1
        assert [event.kind for event in catalog.events.since(0)] == ["team.created"]
    with database.reading() as catalog:
        assert len(catalog.versions.list(NAME).items) == 2


def _publish_and_promote(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "two")
        promote(catalog, 2)
        catalog.events.append("version.created", NAME, {})


def test_a_read_transaction_can_not_write(database: Database, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has no read-only transactions")
    with pytest.raises(DatabaseFailure, match="only accepts reads"), database.reading() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
    with database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())


def test_a_closed_database_opens_again(database: Database) -> None:
    database.close()
    database.close()
    with database.reading() as catalog:
        assert catalog.adapters.find(NAME) is None


def test_a_broken_rule_is_said_without_sql(database: Database) -> None:
    with pytest.raises(DatabaseFailure, match="integrity") as failed, database.writing() as catalog:
        publish(catalog, "one")
        publish(catalog, "one")
    _assert_ours(failed.value)


@pytest.mark.parametrize("message", ["a\0b", "x" * 100_000])
def test_strange_text_is_kept_or_refused_but_never_leaks(database: Database, backend: str, message: str) -> None:
    if backend == "postgresql" and "\0" in message:
        with pytest.raises(DatabaseFailure, match="refused a value") as failed, database.writing() as catalog:
            publish(catalog, "one", message=message)
        _assert_ours(failed.value)
        return
    with database.writing() as catalog:
        publish(catalog, "one", message=message)
    with database.reading() as catalog:
        assert catalog.versions.list(NAME).items[0].message == message


def test_missing_tables_are_said_without_sql(empty_database_url: str) -> None:
    database = Database(empty_database_url)
    with pytest.raises(DatabaseFailure, match="adapters migrate") as failed, database.reading() as catalog:
        catalog.adapters.find(NAME)
    _assert_ours(failed.value)
    database.close()


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_bytes(b"not a database" * 1000)
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    with pytest.raises(DatabaseFailure, match="not an SQLite database") as failed:
        current(database)
    _assert_ours(failed.value)
    database.close()


def test_a_folder_where_the_file_should_be_is_said(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}")
    with pytest.raises(DatabaseFailure, match="can't be opened") as failed, database.reading():
        pass
    _assert_ours(failed.value)


def test_a_lock_that_is_held_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_SECONDS", 0.05)
    first, second = (Database(f"sqlite:///{tmp_path}/catalog.db") for _ in range(2))
    upgrade(first)
    with first.writing(), pytest.raises(DatabaseFailure, match="locked for too long"), second.writing():
        pass
    first.close()
    second.close()


def test_a_server_that_does_not_answer_is_said() -> None:
    database = Database("postgresql+psycopg://nobody:secret@127.0.0.1:1/db")
    with pytest.raises(DatabaseFailure, match="can't be reached") as failed:
        current(database)
    assert "secret" not in failed.value.message
    assert "127.0.0.1" not in failed.value.message


def test_a_lost_connection_is_replaced(database: Database, backend: str) -> None:
    if backend == "sqlite":
        pytest.skip("SQLite has no connections to lose")
    with database.reading() as catalog:
        catalog.adapters.list()
    end_others = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE pid <> pg_backend_pid() AND datname = current_database()"""
    with database.connection(isolation_level="AUTOCOMMIT") as connection:
        with database.connection() as pooled, pooled.begin():
            pooled.execute(text("SELECT 1"))
        connection.execute(text(end_others))
    for _ in range(3):
        with database.reading() as catalog:
            assert catalog.adapters.list().items == ()


def test_a_look_up_imports_neither_alembic_nor_postgresql(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    upgrade(database)
    with database.writing() as catalog:
        publish(catalog, "one")
        promote(catalog, 1)
    database.close()
    program = f"""
import sys
from registry.domain.reference import Reference
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
database = Database("sqlite:///{tmp_path}/catalog.db")
ensure_schema(database, migrate=True)
with database.reading() as catalog:
    assert catalog.versions.find_alias(Reference.parse("demo/sentiment@production"))
names = [name for name in sys.modules if name.startswith(("alembic", "psycopg", "sqlalchemy.dialects.postgresql"))]
tables = [name for name in sys.modules if name.startswith("registry.sql.tables.")]
assert not names, names
assert len(tables) == 5, tables
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
