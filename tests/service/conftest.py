"""A registry on each database, with a folder for its blobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
