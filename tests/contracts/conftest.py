"""The stores that the contract is held against, each one empty."""

from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.blobs.memory import MemoryStore
from registry.blobs.store import BlobStore


@pytest.fixture
def memory_store() -> BlobStore:
    return MemoryStore()


@pytest.fixture
def folder_store(tmp_path: Path) -> BlobStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture(params=["memory_store", "folder_store"])
def store(request: pytest.FixtureRequest) -> BlobStore:
    store: BlobStore = request.getfixturevalue(request.param)
    return store
