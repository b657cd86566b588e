"""Adapters of 120 MB over every path that clients have: Xet and LFS up, streams down; and connections that are cut."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import toy_base
from tests.http.conftest import Server
from tests.hub.clients import Client, ClientError, ClientGone
from tests.hub.conftest import WEIGHTS
from tests.hub.environments import HUBS, NEWEST
from tests.hub.wide import WIDE, WIDTH, wide_adapter
from tests.hub.wire import Wire, wire_to

SEEDS = count(1)  # what a team has isn't sent again
AT_ONCE = 10 << 20  # bytes that clients read before they write them
PATHS = {"Xet": (NEWEST, {}), "LFS": (HUBS["0.36.2"], {}), "LFS of the newest": (NEWEST, {"HF_HUB_DISABLE_XET": "1"})}


def digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stored_digest(hub: Server, repo: str) -> str:
    files = hub.registry.find_version(Reference.parse(f"{repo}@v1")).files
    return next(file.sha256 for file in files if file.path == WEIGHTS)


@pytest.fixture(scope="session")
def wide(hub: Server) -> Server:
    """The server, which knows a base wide enough for large adapters."""
    hub.registry.add_base(WIDE, toy_base("wide", WIDTH))
    return hub


@pytest.mark.parametrize("path", ["Xet", "LFS"])
def test_120_megabytes_arrive_and_come_back(
    path: str, wide: Server, new_client: Callable[..., Client], repo: str, tmp_path: Path
) -> None:
    environment, settings = PATHS[path]
    client = new_client(environment, **settings)
    folder = wide_adapter(tmp_path / "adapter", 500)
    assert (folder / WEIGHTS).stat().st_size > 120_000_000
    client.do("hub.upload", repo=repo, folder=folder)
    found = Path(client.do("hub.one_file", repo=repo, path=WEIGHTS, revision="v1", cache=tmp_path / "cache"))
    assert digest_of(found) == stored_digest(wide, repo) == digest_of(folder / WEIGHTS)


@pytest.fixture
def wire(wide: Server) -> Iterator[Wire]:
    with wire_to(wide.url) as wire:
        yield wire


@pytest.mark.parametrize("path", PATHS)
def test_an_upload_goes_on_after_the_connection_is_cut(
    path: str, wide: Server, new_client: Callable[..., Client], wire: Wire, repo: str, tmp_path: Path
) -> None:
    environment, settings = PATHS[path]
    folder = wide_adapter(tmp_path / "adapter", 100, seed=next(SEEDS))
    client = new_client(environment, HF_ENDPOINT=wire.url, **settings)
    wire.cut_after("up", 15_000_000)
    client.do("hub.upload", repo=repo, folder=folder)
    assert wire.cuts == 1
    assert stored_digest(wide, repo) == digest_of(folder / WEIGHTS)


@pytest.mark.parametrize("version", HUBS)
def test_a_download_goes_on_after_the_connection_is_cut(
    version: str, wide: Server, new_client: Callable[..., Client], wire: Wire, repo: str, tmp_path: Path
) -> None:
    folder = wide_adapter(tmp_path / "adapter", 100, seed=next(SEEDS))
    wide.registry.push_folder(folder, Submission(AdapterName.parse(repo), ()))
    client = new_client(HUBS[version], HF_ENDPOINT=wire.url)
    wire.cut_after("down", 15_000_000)
    asked = {"repo": repo, "path": WEIGHTS, "revision": "v1", "cache": tmp_path / "cache"}
    if version == "0.36.2":  # it doesn't try again by itself
        with pytest.raises(ClientError, match="Connection broken"):
            client.do("hub.one_file", **asked)
    found = Path(client.do("hub.one_file", **asked))
    assert wire.cuts == 1
    assert wire.bytes_down < (folder / WEIGHTS).stat().st_size + AT_ONCE, "it began again"
    assert digest_of(found) == digest_of(folder / WEIGHTS)


@pytest.mark.parametrize("path", PATHS)
def test_of_an_upload_whose_client_dies_nothing_is_seen(
    path: str, wide: Server, new_client: Callable[..., Client], wire: Wire, repo: str, tmp_path: Path
) -> None:
    environment, settings = PATHS[path]
    folder = wide_adapter(tmp_path / "adapter", 100, seed=next(SEEDS))
    doomed = new_client(environment, HF_ENDPOINT=wire.url, **settings)
    wire.cut_after("up", 15_000_000, doomed.kill)
    with pytest.raises(ClientGone):
        doomed.do("hub.upload", repo=repo, folder=folder)
    assert not wide.registry.versions(AdapterName.parse(repo)).items
    new_client(environment, **settings).do("hub.upload", repo=repo, folder=folder)
    assert [version.number for version in wide.registry.versions(AdapterName.parse(repo)).items] == [1]
