"""References: what each selector finds."""

import re
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import event

from registry.domain.errors import InvalidReference, WrongUsage
from registry.domain.records import Commit, FileEntry, Status, Version
from registry.domain.reference import Reference
from registry.sql.catalog import Catalog
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, digest, files, promote, publish, version


def _find(database: Database, text: str) -> Version | None:
    with database.reading() as catalog:
        return catalog.versions.find(Reference.parse(text))


def _commit_readme(catalog: Catalog, number: int, text: str) -> Commit:
    entry = FileEntry("README.md", digest(text), 4)
    catalog.blobs.register(NAME.team, [(entry.sha256, entry.size)], at=at())
    head = catalog.commits.head(NAME)
    assert head is not None
    commit = replace(head, id=digest(f"commit {text}")[:40], parent=head.id, version=number, files=(entry,))
    catalog.commits.add(commit)
    return commit


def test_every_selector_finds_its_version(database: Database) -> None:
    with database.writing() as catalog:
        one, two = publish(catalog, "one"), publish(catalog, "two")
        promote(catalog, 1)
    expected = {
        "": two,
        "@v1": one,
        "@production": one,
        f"@{one.commit}": one,
        f"@sha256:{one.digest[:12]}": one,
        f"@sha256-{two.digest}": two,
    }
    for selector, wanted in expected.items():
        found = _find(database, f"demo/sentiment{selector}")
        assert found == replace(wanted, files=files(wanted.message.removeprefix("train on ")))


@pytest.mark.parametrize("selector", ["@v3", "@staging", "@" + "0" * 40, "@sha256:" + "0" * 12, "@v999999999999999999"])
def test_what_is_not_there_is_none(database: Database, selector: str) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    assert _find(database, f"demo/sentiment{selector}") is None
    assert _find(database, f"demo/absent{selector}") is None


def test_names_are_found_in_any_case_and_answered_in_their_own(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        promote(catalog, 1, "Production")
    for text in ("DEMO/Sentiment", "Demo/SENTIMENT@pRODUCTION"):
        found = _find(database, text)
        assert found is not None
        assert found.adapter == NAME


def test_main_skips_versions_that_are_not_active(database: Database) -> None:
    with database.writing() as catalog:
        for content in ("one", "two", "three"):
            publish(catalog, content)
        catalog.versions.set_status(NAME, 3, status=Status.YANKED, reason=None)
        catalog.versions.set_status(NAME, 2, status=Status.PENDING, reason=None)
    found = _find(database, "demo/sentiment")
    assert found is not None
    assert found.number == 1
    with database.writing() as catalog:
        catalog.versions.set_status(NAME, 1, status=Status.REVOKED, reason=None)
    assert _find(database, "demo/sentiment") is None


def test_main_is_the_newest_commit_also_when_it_brings_back_an_older_content(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        publish(catalog, "two")
        back = _commit_readme(catalog, 1, "one again")
    found = _find(database, "demo/sentiment")
    assert found is not None
    assert (found.number, found.commit, found.files) == (1, back.id, back.files)


def test_a_commit_answers_with_its_own_files_and_a_version_with_its_first(database: Database) -> None:
    with database.writing() as catalog:
        first = publish(catalog, "one")
        readme = _commit_readme(catalog, 1, "a better readme")
    by_commit, by_number = _find(database, f"demo/sentiment@{readme.id}"), _find(database, "demo/sentiment@v1")
    assert by_commit is not None
    assert by_number is not None
    assert (by_commit.commit, by_commit.files) == (readme.id, readme.files)
    assert (by_number.commit, by_number.files) == (first.commit, files("one"))


def test_a_commit_without_an_adapter_leaves_main_s_version(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        head = catalog.commits.head(NAME)
        assert head is not None
        catalog.commits.add(replace(head, id="a" * 40, parent=head.id, version=None, files=()))
        assert catalog.commits.head(NAME) != head
    found = _find(database, "demo/sentiment")
    assert found is not None
    assert found.number == 1
    assert _find(database, "demo/sentiment@" + "a" * 40) is None


def test_digits_that_fit_two_versions_are_refused(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one", digest="ab" * 6 + "0" * 52)
        publish(catalog, "two", digest="ab" * 6 + "1" * 52)
    with pytest.raises(InvalidReference, match="several"):
        _find(database, "demo/sentiment@sha256:" + "ab" * 6)
    found = _find(database, "demo/sentiment@sha256:" + "ab" * 6 + "1")
    assert found is not None
    assert found.number == 2


@pytest.mark.parametrize("status", list(Status))
def test_exact_pins_and_aliases_answer_with_any_status(database: Database, status: Status) -> None:
    with database.writing() as catalog:
        added = publish(catalog, "one")
        promote(catalog, 1)
        catalog.versions.set_status(NAME, 1, status=status, reason=None)
    for selector in ("v1", "production", added.commit, f"sha256:{added.digest}"):
        found = _find(database, f"demo/sentiment@{selector}")
        assert found is not None
        assert found.status is status


def test_an_alias_is_found_with_its_register(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        publish(catalog, "two")
        promote(catalog, 2)
        moved = promote(catalog, 1)
    with database.reading() as catalog:
        found = catalog.versions.find_alias(Reference.parse("demo/sentiment@production"))
        assert catalog.versions.find_alias(Reference.parse("demo/sentiment@staging")) is None
        with pytest.raises(WrongUsage):
            catalog.versions.find_alias(Reference.parse("demo/sentiment@v1"))
    assert found is not None
    assert found == (replace(version("one"), number=1, files=files("one")), moved)
    assert moved.seq == 2


def test_an_alias_that_is_deleted_points_nowhere(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        promote(catalog, 1)
        promote(catalog, None)
    assert _find(database, "demo/sentiment@production") is None


def _statements(database: Database, reference: str) -> list[tuple[str, Any]]:
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if statement.startswith("SELECT"):
            seen.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    _find(database, reference)
    event.remove(database.engine, "before_cursor_execute", note)
    return seen


def _plan(database: Database, statement: str, parameters: Any, backend: str) -> str:
    with database.connection() as connection, connection.begin():
        if backend == "postgresql":
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")  # tables this small are read whole otherwise
        explain = "EXPLAIN " if backend == "postgresql" else "EXPLAIN QUERY PLAN "
        return "\n".join(str(row[-1]) for row in connection.exec_driver_sql(explain + statement, parameters))


@pytest.mark.parametrize("selector", ["", "@v1", "@production", "@sha256:" + "a" * 12, "@" + "a" * 40])
def test_a_look_up_is_two_statements_that_follow_indexes(database: Database, backend: str, selector: str) -> None:
    with database.writing() as catalog:
        publish(catalog, "one", digest="a" * 64, commit="a" * 40)
        promote(catalog, 1)
    statements = _statements(database, f"demo/sentiment{selector}")
    assert len(statements) == 2
    for statement, parameters in statements:
        plan = _plan(database, statement, parameters, backend)
        assert not re.search(r"Seq Scan|^SCAN|TEMP B-TREE|Hash", plan, re.MULTILINE), plan
        if "main_position" in statement.rpartition("WHERE")[2]:
            assert "Sort" not in plan, plan
