"""Servers to write to."""

import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from registry.domain.rights import Role
from tests.factories import TOY, toy_base
from tests.http.conftest import running
from tests.http.hub.writing import Desk

_NUMBERS = count(1)


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
