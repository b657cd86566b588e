"""Base models over HTTP: files that a team has become a commit that holds one, however long hashing takes."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from registry.domain.errors import BaseNotFound, InvalidFile, NotAllowed, OtherLine, WholeModel
from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.formats.base_model import index_base
from registry.http import publications
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from tests.factories import write_adapter, write_model
from tests.http.conftest import Client, Server

NAME = AdapterName("ours", "toy")
SUBMISSION = Submission(NAME, (), message="first")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def ann(server: Server) -> Client:
    server.registry.create_team("ours")
    server.client("ann")
    return server.client("ann", "ours", Role.WRITER)


def remote(client: Client) -> RemoteRegistry:
    return RemoteRegistry(Connection(client.url, client.token))


def test_a_base_is_sent_once_and_told_of_where_it_is(server: Server, ann: Client, folder: Path) -> None:
    fingerprint = index_base(folder).fingerprint
    with pytest.raises(BaseNotFound):
        remote(ann).publish_base(folder, SUBMISSION)
    root = remote(server.client())
    published = root.publish_base(folder, replace(SUBMISSION, base=BaseClaim("org/toy")))
    assert (published.base, published.created, published.left_out) == (fingerprint, True, ("training_args.bin",))
    again = remote(ann).publish_base(folder, SUBMISSION)
    assert (again.commit, again.created) == (published.commit, False)
    base = root.base("org/toy")
    assert [(str(place.name), place.commit) for place in remote(ann).base_places(base)] == [
        ("ours/toy", published.commit)
    ]
    assert remote(server.client("eve")).base_places(base) == []
    assert remote(ann).base_index(base) == index_base(folder)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_is_refused_is_refused_before_bytes_move(
    server: Server, ann: Client, folder: Path, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    with pytest.raises(NotAllowed):
        remote(server.client("bob", "ours", Role.READER)).publish_base(folder, SUBMISSION)
    remote(ann).push_folder(adapter, Submission(AdapterName("ours", "a"), ()))
    with pytest.raises(OtherLine):
        remote(ann).publish_base(folder, Submission(AdapterName("ours", "a"), ()))
    with pytest.raises(WholeModel):
        remote(ann).push_folder(folder, Submission(AdapterName("ours", "b"), ()))
    with pytest.raises(InvalidFile):
        remote(ann).publish_base(adapter, SUBMISSION)
    assert server.registry.figures().uploads == 0
    with server.registry.database.reading() as catalog:
        assert not catalog.blobs.possessed("ours", [_digest(folder / "model-0.safetensors")])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Requests wait for nothing, and hashing waits for the event."""
    monkeypatch.setattr(publications, "PATIENCE", 0.0)
    go_on = threading.Event()
    note = publications.Running.note

    def held(running: publications.Running, what: str, done: int, of: int) -> None:
        note(running, what, done, of)
        assert go_on.wait(30)

    monkeypatch.setattr(publications.Running, "note", held)
    yield go_on
    go_on.set()


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_what_takes_long_is_answered_before_and_asked_for_again_until_it_is_done(
    server: Server, folder: Path, slow: threading.Event
) -> None:
    seen = []

    def progress(what: str, done: int, of: int) -> None:
        seen.append((what, done, of))
        if what == "checking" and of:
            slow.set()

    published = remote(server.client()).publish_base(folder, SUBMISSION, progress=progress)
    assert published.created
    assert any(what == "checking" and 0 < done < of == 4096 for what, done, of in seen)
    lines = [event.kind for event in server.registry.audit() if event.kind in ("base.added", "commit.added")]
    assert lines[-2:] == ["base.added", "commit.added"] and lines.count("commit.added") == 1
