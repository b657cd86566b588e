"""Clients of a server whose store is S3: parts go to it and files come from it, at addresses that the server signs."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.domain.reference import Reference
from tests.factories import toy_base
from tests.http.conftest import Server, running
from tests.hub.clients import client_of
from tests.hub.conftest import TEAM, WEIGHTS
from tests.hub.environments import HUBS
from tests.hub.wide import WIDE, WIDTH, wide_adapter
from tests.hub.wire import Wire, wire_to


@pytest.fixture
def on_s3(s3_store_url: str, sqlite_template: Path, tmp_path: Path) -> Iterator[Server]:
    """A server on SQLite and the local S3, at another host: clients of 1.x take one host for one server."""
    shutil.copyfile(sqlite_template, tmp_path / "catalog.db")
    with running(f"sqlite:///{tmp_path}/catalog.db", s3_store_url.replace("127.0.0.1", "localhost")) as server:
        server.registry.add_base(WIDE, toy_base("wide", WIDTH))
        server.registry.create_team(TEAM)
        yield server


@pytest.fixture
def wire(on_s3: Server) -> Iterator[Wire]:
    with wire_to(on_s3.url) as wire:
        yield wire


def test_every_version_pushes_to_s3_and_pulls_from_it(on_s3: Server, wire: Wire, tmp_path: Path) -> None:
    token = on_s3.client("ann", TEAM).token
    assert token is not None
    for number, (version, environment) in enumerate(HUBS.items()):
        rank = 70 if version == "0.36.2" else 8  # more than a part of LFS, and less
        folder, repo = wide_adapter(tmp_path / f"adapter-{number}", rank, seed=number), f"{TEAM}/on-s3-{number}"
        with client_of(environment, wire.url, token, tmp_path / version) as client:
            commit = client.do("hub.upload", repo=repo, folder=folder)
            down = wire.bytes_down
            found = Path(client.do("hub.one_file", repo=repo, path=WEIGHTS, revision="v1", cache=tmp_path / version))
            assert wire.bytes_down - down < 1_000_000, "the file came from S3, not over the server"
        assert found.read_bytes() == (folder / WEIGHTS).read_bytes()
        assert on_s3.registry.find_version(Reference.parse(f"{repo}@v1")).commit == commit
