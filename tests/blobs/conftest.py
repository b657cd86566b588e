"""Stores to test, on a local server and on Ceph."""

import pytest

from registry.blobs.locate import open_store
from registry.blobs.s3 import S3Store


@pytest.fixture(
    params=[
        pytest.param("s3_store_url", id="s3"),
        pytest.param("ceph_store_url", id="ceph", marks=pytest.mark.ceph),
    ]
)
def store(request: pytest.FixtureRequest) -> S3Store:
    """An empty S3 store on each server."""
    store = open_store(request.getfixturevalue(request.param))
    assert isinstance(store, S3Store)
    return store
