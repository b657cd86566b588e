"""A registry on each database, with a folder for its blobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.service import Registry
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.factories import TOY, toy_base


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """An empty registry that knows the toy base."""
    database = Database(database_url)
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    registry.add_base(TOY, toy_base())
    yield registry
    registry.close()
