"""The stores that the contract is held against, each one empty."""

from pathlib import Path

import pytest

from registry.blobs.locate import open_store
from registry.blobs.store import BlobStore


@pytest.fixture
def memory_store_url() -> str:
    return "memory:"


@pytest.fixture
def folder_store_url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


@pytest.fixture(
    params=[
        pytest.param("memory_store_url", id="memory"),
        pytest.param("folder_store_url", id="folder"),
        pytest.param("s3_store_url", id="s3"),
        pytest.param("ceph_store_url", id="ceph", marks=pytest.mark.ceph),
    ]
)
def store(request: pytest.FixtureRequest) -> BlobStore:
    return open_store(request.getfixturevalue(request.param))
