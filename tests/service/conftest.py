"""A registry on each database, with a folder for its blobs."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from registry.blobs.filesystem import FolderStore
from registry.service import Registry
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.factories import TOY, toy_base
from tests.service.jobs import Clock, push


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry that knows the toy base."""
    database = Database(database_url)
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    registry.add_base(TOY, toy_base())
    yield registry
    registry.close()


# What the answer to a look-up is made of, and who may have it.
_READ_BY_LOOK_UPS = frozenset(
    {
        "adapters",
        "aliases",
        "base_models",
        "base_names",
        "commit_files",
        "commits",
        "lineage_edges",
        "memberships",
        "namespaces",
        "principals",
        "provenances",
        "tokens",
        "versions",
    }
)
_WRITTEN = re.compile(r"\s*(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) \"?(\w+)", re.IGNORECASE)
_NOTE_OF_USE = re.compile(r"UPDATE tokens SET used_at=", re.IGNORECASE)


@pytest.fixture(autouse=True)
def every_change_is_told() -> Iterator[None]:
    """The law that kept answers rest on: no transaction changes what look-ups read without an event."""
    written: dict[int, set[str]] = {}
    untold: list[set[str]] = []

    def note(connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found = _WRITTEN.match(statement)
        if found and not _NOTE_OF_USE.match(statement):
            written.setdefault(id(connection), set()).add(found[1].lower())

    def committed(connection: Any) -> None:
        tables = written.pop(id(connection), set())
        if tables & _READ_BY_LOOK_UPS and "events" not in tables:
            untold.append(tables)

    def rolled_back(connection: Any) -> None:
        written.pop(id(connection), None)

    listeners = (("before_cursor_execute", note), ("commit", committed), ("rollback", rolled_back))
    for name, listener in listeners:
        event.listen(Engine, name, listener)
    yield
    for name, listener in listeners:
        event.remove(Engine, name, listener)
    assert untold == []


@pytest.fixture
def clock(registry: Registry) -> Clock:
    """The registry's clock, which stands until a test moves it."""
    registry.clock = clock = Clock()
    return clock


@pytest.fixture
def ours(registry: Registry, clock: Clock, tmp_path: Path) -> Registry:
    """A registry with two adapters of a team, and one of another's."""
    for seed, name in enumerate(("ours/a", "ours/b", "theirs/c")):
        push(registry, tmp_path / name, name, seed)
    return registry
