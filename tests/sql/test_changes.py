"""Marks move with every commit, whoever makes it, and are not trusted where others could write them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from registry.sql.changes import FileChanges, SharedChanges
from registry.sql.engine import Database


def write(database: Database, team: str) -> None:
    with database.writing() as catalog:
        catalog.teams.ensure(team, actor="ann", at=datetime.now(UTC), visibility="private")


def test_a_mark_stays_while_nothing_changes_and_moves_with_every_commit(database: Database, database_url: str) -> None:
    other = Database(database_url)  # as another process would open it
    marks = [database.changes.mark()]
    for number, writer in enumerate([database, other, database]):
        write(writer, f"team{number}")
        marks.append(database.changes.mark())
        with database.reading() as catalog:
            catalog.teams.list()
        assert database.changes.mark() == marks[-1]
    assert None not in marks and len(set(marks)) == 4
    other.close()


def test_a_shared_mark_is_another_one_after_each_commit(tmp_path: Path) -> None:
    changes = SharedChanges("db", tmp_path / "shared")
    before = changes.mark()
    changes.moved()
    assert changes.mark() != before
    changes.close()


def test_another_database_has_other_marks(tmp_path: Path) -> None:
    one, same, other = (SharedChanges(name, tmp_path / "shared") for name in ("a", "a", "b"))
    for changes in (one, other):
        changes.moved()
    assert one.mark() == same.mark() != other.mark()
    one.moved()
    assert one.mark() == same.mark()


@pytest.mark.parametrize("mode", [0o777, 0o750])
def test_a_folder_that_others_may_enter_is_not_trusted(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    assert SharedChanges("db", folder).mark() is None


def test_a_link_in_the_folders_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "shared").symlink_to(tmp_path / "real")
    changes = SharedChanges("db", tmp_path / "shared")
    changes.moved()
    assert changes.mark() is None
    assert list((tmp_path / "real").iterdir()) == []


def test_without_a_file_there_is_no_mark(tmp_path: Path) -> None:
    assert FileChanges(tmp_path / "none.db").mark() is None
