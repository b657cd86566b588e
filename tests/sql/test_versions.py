"""Versions: numbers, statuses, bases, modules."""

from dataclasses import replace

import pytest

from registry.domain.errors import AdapterNotFound, DatabaseFailure, VersionNotFound, WrongUsage
from registry.domain.records import Evidence, Status, VersionBase
from registry.domain.reference import AdapterName, Reference
from registry.sql.engine import Database
from tests.sql.catalog_records import MODULE, NAME, at, commit_version, files, publish, version

ABSENT = AdapterName("demo", "absent")


def test_a_version_comes_back_as_it_was_stored(database: Database) -> None:
    with database.writing() as catalog:
        added = publish(catalog, "one", status_reason="fresh", metadata={"ü": "ß", "n": "1"})
    expected = replace(version("one", status_reason="fresh", metadata={"ü": "ß", "n": "1"}), number=1)
    assert added == expected
    with database.reading() as catalog:
        found = catalog.versions.find(Reference.parse("demo/sentiment@v1"))
        assert found == replace(expected, files=files("one"))
        assert catalog.versions.by_digest(NAME, expected.digest) == found
        assert catalog.versions.modules(NAME, 1) == (MODULE,)


def test_a_number_given_up_by_a_rollback_is_given_to_the_next(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as catalog:
        assert publish(catalog, "one").number == 1
        raise ZeroDivisionError
    with database.writing() as catalog:
        assert publish(catalog, "two").number == 1
    with database.reading() as catalog:
        assert catalog.versions.by_digest(NAME, version("one").digest) is None


def test_a_version_without_its_commit_is_not_kept(database: Database) -> None:
    with pytest.raises(DatabaseFailure), database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
        catalog.versions.add(version("one"), ())
    with database.reading() as catalog:
        assert catalog.adapters.find(NAME) is None


def test_a_commit_whose_blobs_are_not_registered_is_not_kept(database: Database) -> None:
    with pytest.raises(DatabaseFailure), database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
        commit_version(catalog, catalog.versions.add(version("one"), ()))


def test_the_same_content_can_not_become_two_versions(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    with pytest.raises(DatabaseFailure) as refused, database.writing() as catalog:
        publish(catalog, "one", commit="0" * 40)
    assert "integrity" in refused.value.message
    assert "versions" not in refused.value.message


def test_adding_to_an_absent_adapter_names_it(database: Database) -> None:
    with pytest.raises(AdapterNotFound, match="demo/absent"), database.writing() as catalog:
        catalog.versions.add(version("one", ABSENT), ())


def test_listing_pages_newest_first(database: Database) -> None:
    with database.writing() as catalog:
        for content in "abcde":
            publish(catalog, content)
    with database.reading() as catalog:
        first = catalog.versions.list(NAME, limit=2)
        second = catalog.versions.list(NAME, cursor=first.cursor, limit=2)
        third = catalog.versions.list(NAME, cursor=second.cursor, limit=2)
    numbers = [[found.number for found in page.items] for page in (first, second, third)]
    assert numbers == [[5, 4], [3, 2], [1]]
    assert third.cursor is None
    assert first.items[0].files == ()


@pytest.mark.parametrize("cursor", ["", "-1", "x", "٣", "1 OR 1=1", "9" * 30])
def test_a_foreign_cursor_is_wrong_usage(database: Database, cursor: str) -> None:
    with pytest.raises(WrongUsage), database.reading() as catalog:
        catalog.versions.list(NAME, cursor=cursor)


def test_a_status_changes_with_its_reason(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        catalog.versions.set_status(NAME, 1, status=Status.YANKED, reason="wrong data")
    with database.reading() as catalog:
        found = catalog.versions.find(Reference.parse("demo/sentiment@v1"))
    assert found is not None
    assert (found.status, found.status_reason) == (Status.YANKED, "wrong data")


def test_a_newer_base_becomes_current_and_the_older_ones_stay_on_record(database: Database) -> None:
    exact = VersionBase("MiniLM", "f" * 64, Evidence.EXACT)
    matched = replace(MODULE, base_tensor="matched.weight")
    with database.writing() as catalog:
        publish(catalog, "one")
        catalog.versions.set_base(NAME, 1, exact, modules=(matched,), actor="bob", at=at(5))
    with database.reading() as catalog:
        found = catalog.versions.find(Reference.parse("demo/sentiment"))
        assert found is not None
        assert found.base == exact
        assert catalog.versions.bases(NAME, 1) == (version("one").base, exact)
        assert catalog.versions.modules(NAME, 1) == (matched,)


def test_what_is_not_there_is_named(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    with pytest.raises(VersionNotFound, match="v2"), database.writing() as catalog:
        catalog.versions.set_status(NAME, 2, status=Status.YANKED, reason=None)
    with pytest.raises(VersionNotFound, match="v2"), database.writing() as catalog:
        catalog.versions.set_base(NAME, 2, version("one").base, modules=(), actor="ann", at=at())
    with pytest.raises(VersionNotFound, match="v2"), database.reading() as catalog:
        catalog.versions.modules(NAME, 2)
