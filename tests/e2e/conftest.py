"""Registries as users run them: embedded, and PostgreSQL with S3 (a fast local server, or Ceph RGW)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.program import Program


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("s3_store_url", id="postgresql-s3"),
        pytest.param("ceph_store_url", id="postgresql-ceph", marks=pytest.mark.ceph),
    ]
)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The `adapters` program on an empty registry, migrated where that is the operator's part."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ADAPTERS_")}
    environment["ADAPTERS_HOME"] = str(tmp_path / "home")
    if request.param == "embedded":
        yield Program(environment)
        return
    environment["ADAPTERS_BLOBS_URL"] = request.getfixturevalue(request.param)
    environment |= {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    postgres = request.getfixturevalue("postgres")
    url = postgres.create(empty=True)
    program = Program(environment | {"ADAPTERS_DATABASE_URL": url})
    program("migrate")
    yield program
    postgres.drop(url)
