"""Registries as users run them: embedded, and PostgreSQL with S3 (a fast local server, or Ceph RGW)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.program import Program


def _environment(home: Path) -> dict[str, str]:
    # Without compiled files every one of many processes would compile the whole program again.
    unwanted = ("ADAPTERS_", "PYTHONDONTWRITEBYTECODE")
    ours = {key: value for key, value in os.environ.items() if not key.startswith(unwanted)}
    return ours | {"ADAPTERS_HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture(
    params=[
        "embedded",
        pytest.param("s3_store_url", id="postgresql-s3"),
        pytest.param("ceph_store_url", id="postgresql-ceph", marks=pytest.mark.ceph),
    ]
)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    """The `adapters` program on an empty registry, migrated where that is the operator's part."""
    if request.param == "embedded":
        yield Program(_environment(tmp_path / "home"))
        return
    blobs_url = request.getfixturevalue(request.param)
    postgres = request.getfixturevalue("postgres")
    url = postgres.create(empty=True)
    program = Program(_environment(tmp_path / "home") | {"ADAPTERS_BLOBS_URL": blobs_url, "ADAPTERS_DATABASE_URL": url})
    program("migrate")
    yield program
    postgres.drop(url)
