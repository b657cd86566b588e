"""Servers to read from and to write to, and the Hub's own client in front of them."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server, running
from tests.http.hub.writing import Desk

_NUMBERS = count(1)
SUPPORT = "acme/support"
CARD = f"""---
license: mit
language: [en, de]
base_model: somebody/else
tags: [help-desk]
trained: 2026-11-22
---
# Support, trained on {TOY}
"""


@dataclass(frozen=True)
class Library:
    """A server that a module only reads from, and `commits` of acme/support by what they are."""

    server: Server
    client: Client
    commits: dict[str, str]

    @property
    def api(self) -> HfApi:
        return HfApi(endpoint=self.server.url, token=self.client.token)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Library]:
    """acme/support has v1 (production), v2 (yanked), v3, then a better README; theirs/hidden is another team's."""
    folder = tmp_path_factory.mktemp("library")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    with running(f"sqlite:///{folder}/catalog.db", (folder / "blobs").as_uri()) as server:
        commits = _fill(server, folder)
        server.registry.create_team("others")
        yield Library(server, server.client("ann", "acme", Role.READER), commits)


def _fill(server: Server, folder: Path) -> dict[str, str]:
    registry = server.registry
    registry.add_base(TOY, toy_base())
    commits = {}
    for seed in (1, 2, 3):
        commits[f"v{seed}"] = _push(server, folder / str(seed), SUPPORT, seed, f"train {seed}\n\nfor the <desk>")
    (folder / "3" / "README.md").write_text(CARD)
    commits["main"] = registry.push_folder(folder / "3", _to(SUPPORT, "a better README")).commit
    registry.promote(Reference.parse(f"{SUPPORT}@v1"), "production")
    registry.set_status(Reference.parse(f"{SUPPORT}@v2"), Status.YANKED, reason="worse")
    _push(server, folder / "hidden", "theirs/hidden", 4, "")
    return commits


def _push(server: Server, folder: Path, name: str, seed: int, message: str) -> str:
    write_adapter(folder, seed=seed)
    (folder / "eval" / "deep").mkdir(parents=True)
    (folder / "eval" / "deep" / "ü.json").write_text('{"f1": 0.9}')
    (folder / "notes.txt").write_text("")
    return server.registry.push_folder(folder, _to(name, message)).commit


def _to(name: str, message: str) -> Submission:
    return Submission(AdapterName.parse(name), (), message=message)


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """The requests that huggingface_hub sends, as `METHOD path`."""
    seen: list[str] = []

    def note(request: httpx2.Request) -> None:
        seen.append(f"{request.method} {request.url.path}")

    def client() -> httpx2.Client:
        return httpx2.Client(event_hooks={"request": [note]}, follow_redirects=True, timeout=10)

    huggingface_hub.set_client_factory(client)
    yield seen
    huggingface_hub.close_session()
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture(scope="module")
def open_desk(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Desk]:
    """A server of the module's own that knows the toy base, with the teams ours (ann writes, rita reads) and theirs."""
    folder = tmp_path_factory.mktemp("desk")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    with running(f"sqlite:///{folder}/catalog.db", (folder / "blobs").as_uri()) as server:
        server.registry.add_base(TOY, toy_base())
        for team in ("ours", "theirs"):
            server.registry.create_team(team)
        ann = server.client("ann", "ours", Role.MAINTAINER)
        yield Desk(server, ann, server.client("rita", "ours", Role.READER), server.client("eve", "theirs", Role.OWNER))


@pytest.fixture
def desk(open_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The module's server, with a repository that no other test writes to, for clients without Xet."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    disable_progress_bars()
    repo = f"ours/r{next(_NUMBERS)}"
    open_desk.api.create_repo(repo)
    yield open_desk.about(repo)
    enable_progress_bars()
