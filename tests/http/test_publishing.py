"""Publishing over HTTP: what a team has becomes a version, once for each key."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import urllib3

from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from cli.remote.uploads import upload_file
from registry.domain.errors import BaseMismatch, BaseNotFound, NotAllowed, StaleCommit, WrongUsage
from registry.domain.records import Evidence
from registry.domain.reference import Reference
from registry.domain.rights import Role
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from tests.factories import TOY, write_adapter
from tests.http.conftest import Client, Server

VERSIONS = "/v1/adapters/ours/a/versions"


@pytest.fixture
def ann(server: Server) -> Client:
    server.registry.create_team("ours")
    server.client("ann")
    return server.client("ann", "ours", Role.MAINTAINER)


@pytest.fixture
def body(ann: Client, tmp_path: Path) -> dict[str, Any]:
    """A request for a first version whose files were sent."""
    folder, files = write_adapter(tmp_path / "adapter"), []
    for path in sorted(folder.iterdir()):
        sha256, size = hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size
        upload_file(Connection(ann.url, ann.token), "ours", path, sha256=sha256, size=size)
        files.append({"path": path.name, "sha256": sha256, "size": size})
    return {"files": files, "message": "first", "metadata": {"run": "7"}, "aliases": ["production"]}


def publish(client: Client, body: dict[str, Any], key: str | None = None) -> urllib3.BaseHTTPResponse:
    return client.request("POST", VERSIONS, json=body, headers={"Idempotency-Key": key} if key else {})


def lines(server: Server) -> int:
    """How often the version was published."""
    return len(server.registry.lineage(server.registry.find_version(Reference.parse("ours/a@v1"))).provenance)


def test_files_that_a_team_has_become_a_version(server: Server, ann: Client, body: dict[str, Any]) -> None:
    answer = publish(ann, body)
    document = answer.json()
    assert (answer.status, document["created"], document["version"]["version"]) == (201, True, 1)
    assert document["version"]["files"] == body["files"]
    assert document["version"]["base"]["evidence"] == "structural"
    assert [(move["alias"], move["after"]) for move in document["moves"]] == [("production", 1)]
    again = publish(ann, body)
    assert (again.status, again.json()["created"], lines(server)) == (200, False, 2)


def test_a_hashed_base_is_exact_evidence(ann: Client, body: dict[str, Any]) -> None:
    document = publish(ann, body | {"base": {"name": TOY, "hashed": True}}).json()
    assert document["version"]["base"]["evidence"] == "exact"


def test_a_request_with_a_key_happens_once(server: Server, ann: Client, body: dict[str, Any]) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: publish(ann, body, "key-1"), range(8)))
    assert {(answer.status, answer.data) for answer in answers} == {(201, answers[0].data)}
    assert lines(server) == 1
    assert len(server.registry.history(Reference.parse("ours/a").adapter, "production")) == 1


def test_a_key_names_one_request_of_one_principal(server: Server, ann: Client, body: dict[str, Any]) -> None:
    assert publish(ann, body, "key-1").status == 201
    refused = publish(ann, body | {"message": "second"}, "key-1")
    assert (refused.status, refused.json()["error"]) == (422, "key_reused")
    server.client("carl")
    carl = server.client("carl", "ours", Role.MAINTAINER)
    assert publish(carl, body | {"message": "second"}, "key-1").status == 200


def test_a_refusal_is_not_kept_under_its_key(server: Server, ann: Client, body: dict[str, Any]) -> None:
    stale = body | {"expected_head": "0" * 40}
    assert publish(ann, stale, "key-1").json()["error"] == "stale_commit"
    assert publish(ann, body, "key-1").status == 201


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"files": []}, 422),
        ({"files": [{"path": "../x", "sha256": "0" * 64, "size": 1}]}, 422),
        ({"files": [{"path": "x", "sha256": "0" * 64, "size": 1}]}, 404),
        ({"base": "nobody/knows"}, 404),
        ({"aliases": ["main"]}, 400),
        ({"unknown": 1}, 422),
        ({"metadata": {"k": 1}}, 422),
    ],
)
def test_what_can_not_be_published_is_refused(ann: Client, body: dict[str, Any], changed: Any, status: int) -> None:
    assert publish(ann, body | changed).status == status
    assert ann.get("/v1/adapters/ours/a/resolve").status == 404


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_whoever_may_only_read_publishes_nothing(server: Server, body: dict[str, Any]) -> None:
    server.client("eve")
    eve = server.client("eve", "ours", Role.READER)
    assert publish(eve, body, "key-1").status == 403


def test_what_can_not_be_published_is_refused_before_bytes_move(server: Server, ann: Client, tmp_path: Path) -> None:
    name = Reference.parse("ours/a").adapter
    server.client("walt")
    walt = server.client("walt", "ours", Role.WRITER)
    wide, right = write_adapter(tmp_path / "wide", width=32), write_adapter(tmp_path / "right")
    refused: list[tuple[Client, Path, Submission, type[Exception]]] = [
        (ann, wide, Submission(name, ()), BaseMismatch),
        (ann, right, Submission(name, (), base=BaseClaim("no/base")), BaseNotFound),
        (ann, right, Submission(name, (), base=BaseClaim("sha256:" + "0" * 64)), BaseNotFound),
        (ann, right, Submission(name, (), expected_head="0" * 40), StaleCommit),
        (ann, right, Submission(name, (), message="\x1b"), WrongUsage),
        (walt, right, Submission(name, (), aliases=("production",)), NotAllowed),
    ]
    for client, folder, submission, error in refused:
        with pytest.raises(error):
            RemoteRegistry(Connection(client.url, client.token)).push_folder(folder, submission)
    assert list(server.registry.blobs.list()) == []
    remote = RemoteRegistry(Connection(walt.url, walt.token))
    version = remote.push_folder(right, Submission(name, (), base=BaseClaim(TOY.upper()))).version
    assert version is not None and version.base.evidence is Evidence.STRUCTURAL
    assert remote.push_folder(write_adapter(tmp_path / "c", base_model_name_or_path="/a/../b?c"), Submission(name, ()))


def test_a_dry_run_checks_all_but_the_files_and_keeps_nothing(server: Server, ann: Client) -> None:
    body: dict[str, Any] = {"files": [{"path": "README.md", "sha256": "0" * 64, "size": 1}], "dry_run": True}
    assert (publish(ann, body).status, publish(ann, body, "key").status) == (204, 204)
    assert publish(ann, body | {"files": [body["files"][0] | {"path": "../x"}]}).status == 422
    assert ann.get("/v1/adapters/ours/a").status == 404
