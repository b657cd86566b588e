"""Adapters: names unique without case, listing by pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import event, select
from sqlalchemy.engine import Engine

from registry.domain.errors import AdapterNotFound, NameTaken
from registry.domain.records import Adapter, Status
from registry.domain.reference import AdapterName, Reference, Selector
from registry.sql.engine import Database
from registry.sql.tables.principals import memberships, principals
from tests.sql.catalog_records import NAME, at, promote, publish


def test_an_adapter_is_created_once(database: Database) -> None:
    for seconds in (0, 60):
        with database.writing() as catalog:
            assert catalog.adapters.ensure(NAME, actor="ann", at=at(seconds)) == NAME
    with database.reading() as catalog:
        assert catalog.adapters.find(NAME) == Adapter(NAME, None, None, 0, {}, at(), at())


@pytest.mark.parametrize("other", ["demo/Sentiment", "DEMO/sentiment"])
def test_a_name_in_another_case_is_found_but_not_created(database: Database, other: str) -> None:
    with database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
    with database.reading() as catalog:
        found = catalog.adapters.find(AdapterName.parse(other))
        assert found is not None
        assert found.name == NAME
    with pytest.raises(NameTaken), database.writing() as catalog:
        catalog.adapters.ensure(AdapterName.parse(other), actor="ann", at=at())


def test_a_team_in_another_case_is_taken_for_new_adapters_too(database: Database) -> None:
    with database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
    with pytest.raises(NameTaken, match="demo"), database.writing() as catalog:
        catalog.adapters.ensure(AdapterName("Demo", "other"), actor="ann", at=at())


def test_an_adapter_tells_its_head_versions_and_aliases(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        two = publish(catalog, "two", created_at=at(7))
        promote(catalog, 1)
        promote(catalog, 2, "Staging")
        promote(catalog, 1, "old")
        promote(catalog, None, "old")
    with database.reading() as catalog:
        found = catalog.adapters.find(NAME)
    assert found == Adapter(NAME, two.commit, 2, 2, {"production": 1, "Staging": 2}, at(), at(7))


def test_listing_pages_by_name_and_keeps_to_the_team(database: Database) -> None:
    names = ["a/x", "a-b/x", "a.b/x", "a/Z", "a/y", "ab/x", "b/x"]
    with database.writing() as catalog:
        for name in names:
            catalog.adapters.ensure(AdapterName.parse(name), actor="ann", at=at())
    with database.reading() as catalog:
        seen, cursor = [], None
        while True:
            page = catalog.adapters.list(cursor=cursor, limit=2)
            seen += [str(adapter.name) for adapter in page.items]
            cursor = page.cursor
            if cursor is None:
                break
        team = catalog.adapters.list(team="A")
    assert seen == sorted(names, key=str.lower)
    assert [str(adapter.name) for adapter in team.items] == ["a/x", "a/y", "a/Z"]
    assert team.cursor is None


def test_the_newest_versions_of_a_page_come_from_one_statement(database: Database) -> None:
    names = [AdapterName("demo", f"a{index}") for index in range(5)]
    with database.writing() as catalog:
        for index, name in enumerate(names):
            catalog.adapters.ensure(name, actor="ann", at=at())
            for number in range(index):
                publish(catalog, f"{name} {number}", name=name)
        catalog.versions.set_status(names[4], 4, status=Status.YANKED, reason="wrong")
    with database.reading() as catalog:
        wanted = [catalog.versions.find(Reference(name, Selector.VERSION, str(n))) for n, name in enumerate(names)]
        with counted() as statements:
            found = catalog.versions.newest(names)
    assert len(statements) == 1
    assert [found.get(name) for name in names] == [version and replace(version, files=()) for version in wanted]
    assert found[names[4]].status is Status.YANKED and names[0] not in found


@contextmanager
def counted() -> Iterator[list[str]]:
    """The statements that run meanwhile, on any connection."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_locking_an_absent_adapter_names_it(database: Database) -> None:
    with pytest.raises(AdapterNotFound, match="demo/sentiment"), database.writing() as catalog:
        catalog.adapters.lock(NAME)


def test_the_first_actor_owns_a_new_team_and_everybody_who_acts_is_a_principal(database: Database) -> None:
    with database.writing() as catalog:
        catalog.adapters.ensure(NAME, actor="ann", at=at())
        catalog.adapters.ensure(NAME, actor="bob", at=at())
        catalog.adapters.ensure(NAME, actor="BOB", at=at())
    with database.connection() as connection:
        owned = select(principals.c.name, memberships.c.role).join(
            memberships, memberships.c.principal_id == principals.c.id
        )
        assert connection.execute(owned).all() == [("ann", "owner")]
        everybody = select(principals.c.name).order_by(principals.c.name)
        assert connection.scalars(everybody).all() == ["ann", "bob"]
