"""Commits: main's history."""

from dataclasses import replace

import pytest

from registry.domain.errors import AdapterNotFound, VersionNotFound
from registry.domain.reference import AdapterName
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, commit_version, files, publish


def test_a_commit_comes_back_as_it_was_stored_and_is_main(database: Database) -> None:
    with database.writing() as catalog:
        one = publish(catalog, "one")
        two = publish(catalog, "two", author="bob", created_at=at(3))
    with database.reading() as catalog:
        found = catalog.commits.find(NAME, two.commit)
        assert found == catalog.commits.head(NAME)
        history = catalog.commits.list(NAME)
        assert catalog.commits.list(NAME, limit=1) == history[:1]
    assert found is not None
    assert (found.parent, found.author, found.created_at) == (one.commit, "bob", at(3))
    assert (found.version, found.files, found.message) == (2, files("two"), "train on two")
    assert [commit.id for commit in history] == [two.commit, one.commit]


def test_nothing_is_found_where_nothing_is(database: Database) -> None:
    with database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
    with database.reading() as catalog:
        assert catalog.commits.head(NAME) is None
        assert catalog.commits.find(NAME, "0" * 40) is None
        assert catalog.commits.list(AdapterName("demo", "absent")) == []


def test_a_commit_needs_its_adapter_and_its_version(database: Database) -> None:
    with database.writing() as catalog:
        added = publish(catalog, "one")
    with pytest.raises(AdapterNotFound), database.writing() as catalog:
        commit_version(catalog, added, AdapterName("demo", "absent"))
    with pytest.raises(VersionNotFound, match="v7"), database.writing() as catalog:
        commit_version(catalog, replace(added, commit="1" * 40, number=7))
    with database.reading() as catalog:
        assert len(catalog.commits.list(NAME)) == 1
