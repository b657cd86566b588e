"""Files into a server: parts in any order, possession by team, nothing kept of what is wrong."""

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from cli.remote.uploads import upload_file
from registry.domain.errors import DigestMismatch, UploadNotFound
from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.http import receiving, verifying
from registry.service import Registry
from registry.service.completion import Stopped
from registry.service.core import now
from registry.service.publishing import Submission
from registry.service.uploads import KEPT
from tests.factories import write_adapter
from tests.http.conftest import Client, Server

MIB = 1 << 20
PART = 16 * MIB
EMPTY = hashlib.sha256(b"").hexdigest()

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def connection_of(client: Client) -> Connection:
    return Connection(client.url, client.token)


def begin(client: Client, in_team: str, data: bytes, **changed: Any) -> urllib3.BaseHTTPResponse:
    document = {"team": in_team, "sha256": digest_of(data), "size": len(data)} | changed
    return client.request("POST", "/v1/uploads", json=document)


def send(client: Client, part: dict[str, Any], data: bytes) -> urllib3.BaseHTTPResponse:
    return client.request("PUT", part["url"], body=data)


def kept(server: Server) -> list[str]:
    store = server.registry.blobs
    return [*(blob.sha256 for blob in store.list()), *(staged.upload_id for staged in store.staged())]


@pytest.fixture
def ann(server: Server) -> Client:
    server.registry.create_team("ours")
    server.client("ann")
    return server.client("ann", "ours", Role.WRITER)


@pytest.fixture
def bob(server: Server) -> Client:
    server.registry.create_team("theirs")
    server.client("bob")
    return server.client("bob", "theirs", Role.WRITER)


@pytest.mark.parametrize("size", [0, 1000, PART, 2 * PART + 5])
def test_a_file_that_was_sent_is_the_teams(server: Server, ann: Client, tmp_path: Path, size: int) -> None:
    file, data, seen = tmp_path / "file", noise(size), []
    file.write_bytes(data)
    sent = upload_file(connection_of(ann), "ours", file, sha256=digest_of(data), size=size, progress=seen.append)
    assert (sent, sum(seen)) == (size, size)
    assert kept(server) == [digest_of(data)]
    assert begin(ann, "ours", data).json() == {"id": None, "state": "done", "parts": [], "progress": None}
    assert upload_file(connection_of(ann), "ours", file, sha256=digest_of(data), size=size) == 0


def test_an_upload_goes_on_where_it_was_left(ann: Client, tmp_path: Path) -> None:
    data = noise(3 * PART)
    begun = begin(ann, "ours", data).json()
    assert begun["state"] == "open"
    assert [(part["number"], part["size"], part["there"]) for part in begun["parts"]] == [
        (number, PART, False) for number in (1, 2, 3)
    ]
    assert send(ann, begun["parts"][1], data[PART : 2 * PART]).status == 204
    again = begin(ann, "ours", data).json()
    assert again == ann.get(f"/v1/uploads/{begun['id']}").json()
    assert (again["id"], [part["there"] for part in again["parts"]]) == (begun["id"], [False, True, False])
    assert again["parts"][1]["url"] is None
    file = tmp_path / "file"
    file.write_bytes(data)
    assert upload_file(connection_of(ann), "ours", file, sha256=digest_of(data), size=len(data)) == 2 * PART


def test_completing_says_what_is_missing_and_may_be_repeated(ann: Client) -> None:
    begun = begin(ann, "ours", b"whole").json()
    path = f"/v1/uploads/{begun['id']}/complete"
    refused = ann.request("POST", path)
    assert (refused.status, refused.json()["error"], refused.json()["detail"]["missing"]) == (
        409,
        "upload_incomplete",
        1,
    )
    send(ann, begun["parts"][0], b"whole")
    done = {"id": begun["id"], "state": "done", "parts": [], "progress": None}
    assert [ann.request("POST", path).json() for _ in range(2)] == [done, done]
    assert ann.get(f"/v1/uploads/{begun['id']}").json() == done
    late = ann.request("PUT", f"/v1/uploads/{begun['id']}/parts/1", body=b"other")
    assert (late.status, late.json()["error"]) == (409, "upload_busy")


def test_wrong_bytes_are_refused_and_nothing_is_kept(server: Server, ann: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(noise(PART + 1))
    with pytest.raises(DigestMismatch) as refused:
        upload_file(connection_of(ann), "ours", file, sha256="0" * 64, size=PART + 1)
    assert refused.value.found == digest_of(noise(PART + 1))
    assert kept(server) == []


@pytest.mark.parametrize("body", [b"", b"four", b"sixsix"])
def test_a_part_of_another_length_is_refused(server: Server, ann: Client, body: bytes) -> None:
    begun = begin(ann, "ours", b"fives").json()
    refused = send(ann, begun["parts"][0], body)
    assert (refused.status, refused.json()["error"]) == (422, "part_mismatch")
    assert not ann.get(f"/v1/uploads/{begun['id']}").json()["parts"][0]["there"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"size": -1}, 422),
        ({"size": (1 << 40) + 1}, 400),
        ({"sha256": "A" * 64}, 422),
        ({"sha256": EMPTY, "size": 5.0}, 422),
        ({"sha256": "0" * 64, "size": 0}, 422),
        ({"team": "no/team"}, 400),
        ({"more": 1}, 422),
    ],
)
def test_an_upload_that_can_not_be_is_refused(server: Server, ann: Client, changed: Any, status: int) -> None:
    assert begin(server.client() if "team" in changed else ann, "ours", b"x", **changed).status == status
    assert kept(server) == []


def test_an_upload_that_many_complete_at_once_is_complete(server: Server, ann: Client) -> None:
    data = noise(8 * MIB)
    begun = begin(ann, "ours", data).json()
    send(ann, begun["parts"][0], data)
    path = f"/v1/uploads/{begun['id']}/complete"
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: ann.request("POST", path), range(6)))
    assert {answer.status for answer in answers} <= {200, 202}
    assert ann.request("POST", path).json()["state"] == "done"
    assert kept(server) == [digest_of(data)]


def test_what_takes_long_is_answered_before_it_is_done(
    server: Server, ann: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "PATIENCE", 0.0)
    file, data = tmp_path / "file", noise(PART + 1)
    file.write_bytes(data)
    begun = begin(ann, "ours", data).json()
    for part in begun["parts"]:
        send(ann, part, data[(part["number"] - 1) * PART :][: part["size"]])
    hold(server, begun["id"], timedelta(seconds=30), verified=PART)
    path = f"/v1/uploads/{begun['id']}"
    held = begun | {"state": "verifying", "parts": [], "progress": {"done": PART, "of": PART + 1}}
    for answer, status in ((ann.get(path), 200), (ann.request("POST", f"{path}/complete"), 202)):
        assert (answer.status, answer.json()) == (status, held)
    assert send(ann, begun["parts"][0], data[:PART]).json()["error"] == "upload_busy"
    hold(server, begun["id"], timedelta(seconds=0))  # whoever held it was killed, and time went by
    assert ann.get(path).json()["state"] == "open"
    seen: list[tuple[int, int]] = []
    sent = upload_file(
        connection_of(ann),
        "ours",
        file,
        sha256=digest_of(data),
        size=len(data),
        verified=lambda done, of: seen.append((done, of)),
    )
    assert (sent, kept(server)) == (0, [digest_of(data)])
    assert all(of == len(data) for _, of in seen)


def hold(server: Server, upload: str, rest: timedelta, verified: int = 0) -> None:
    """As if somebody who is not there any more had begun to verify an upload."""
    with server.registry.database.writing() as catalog:
        catalog.uploads.claim(upload, at=now(), until=now() + timedelta(seconds=30))
        assert catalog.uploads.go_on(upload, verified=verified, until=now() + rest)


def test_what_was_found_wrong_is_told_to_whoever_asks_later(
    server: Server, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifying, "PATIENCE", 0.0)
    begun = begin(ann, "ours", b"right").json()
    send(ann, begun["parts"][0], b"wrong")
    path = f"/v1/uploads/{begun['id']}"
    assert ann.request("POST", f"{path}/complete").status in (202, 422)
    end = time.monotonic() + 10
    while (answer := ann.get(path)).status == 200:
        assert time.monotonic() < end
    assert (answer.status, answer.json()["error"]) == (422, "digest_mismatch")
    assert answer.json()["detail"]["found"] == digest_of(b"wrong")
    assert ann.request("POST", f"{path}/complete").data == answer.data
    assert send(ann, begun["parts"][0], b"right").data == answer.data
    assert kept(server) == []
    assert begin(ann, "ours", b"right").json()["id"] != begun["id"]


def test_an_upload_that_is_given_up_while_it_is_read_is_not_kept(server: Server, ann: Client) -> None:
    begun = begin(ann, "ours", b"given up").json()
    send(ann, begun["parts"][0], b"given up")

    def give_up() -> bool:
        server.registry.abandon_upload(begun["id"])
        return False

    with pytest.raises(UploadNotFound):
        server.registry.complete_upload(begun["id"], stopping=give_up)
    assert begin(ann, "ours", b"given up").json()["state"] == "open"
    assert kept(server) == []


def test_a_reader_that_is_stopped_leaves_the_upload_to_the_next(server: Server, ann: Client) -> None:
    begun = begin(ann, "ours", b"later").json()
    send(ann, begun["parts"][0], b"later")
    with pytest.raises(Stopped):
        server.registry.complete_upload(begun["id"], stopping=lambda: True)
    assert ann.request("POST", f"/v1/uploads/{begun['id']}/complete").json()["state"] == "done"


def test_bytes_that_were_verified_are_not_sent_again_when_the_server_died_over_it(
    server: Server, ann: Client, bob: Client
) -> None:
    data = b"verified"
    begun = begin(ann, "ours", data).json()
    for upload, verified in ((begun["id"], len(data)), (begin(bob, "theirs", data).json()["id"], len(data) - 1)):
        hold(server, upload, timedelta(0), verified=verified)
    server.registry.blobs.put([data], sha256=digest_of(data), size=len(data))
    assert ann.request("POST", f"/v1/uploads/{begun['id']}/complete").json()["state"] == "done"
    unproved = begin(bob, "theirs", data).json()
    assert bob.request("POST", f"/v1/uploads/{unproved['id']}/complete").json()["error"] == "upload_incomplete"


def test_a_part_whose_bytes_stop_coming_is_given_up(
    server: Server, ann: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "SILENCE", 0.2)
    begun = begin(ann, "ours", b"fives").json()

    def body() -> Iterator[bytes]:
        yield b"fi"
        time.sleep(2)
        yield b"ves"

    answer = ann.request("PUT", begun["parts"][0]["url"], body=body(), headers={"Content-Length": "5"})
    assert answer.status == 408
    assert ann.request("POST", f"/v1/uploads/{begun['id']}/complete").json()["error"] == "upload_incomplete"


def test_another_teams_blob_must_be_sent_all_the_same(server: Server, ann: Client, bob: Client, tmp_path: Path) -> None:
    data, file = noise(1000), tmp_path / "file"
    file.write_bytes(data)
    upload_file(connection_of(ann), "ours", file, sha256=digest_of(data), size=1000)
    files = [{"path": "README.md", "sha256": digest_of(data), "size": 1000}]
    refused = bob.request("POST", "/v1/adapters/theirs/a/versions", json={"files": files})
    absent = bob.request("POST", "/v1/adapters/theirs/a/versions", json={"files": [files[0] | {"sha256": "0" * 64}]})
    assert (refused.status, refused.json()["error"], absent.status) == (404, "blob_not_found", 404)
    assert begin(bob, "theirs", data).json()["state"] == "open"
    assert upload_file(connection_of(bob), "theirs", file, sha256=digest_of(data), size=1000) == 1000
    assert bob.request("POST", "/v1/adapters/theirs/a/versions", json={"files": files}).status == 200
    assert kept(server) == [digest_of(data)]


def test_another_teams_upload_looks_like_none(ann: Client, bob: Client) -> None:
    there, nowhere = begin(ann, "ours", b"mine").json()["id"], "upload-0"
    for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/complete"), ("PUT", "/parts/1")]:
        answers = [bob.request(method, f"/v1/uploads/{upload}{path}") for upload in (there, nowhere)]
        assert [answer.status for answer in answers] == [404, 404]
        there_not, absent = (answer.data for answer in answers)
        assert there_not.replace(there.encode(), nowhere.encode()) == absent
    assert begin(bob, "ours", b"mine").data == begin(bob, "nowhere", b"mine").data.replace(b"nowhere", b"ours")


def test_whoever_may_only_read_sends_nothing(server: Server, ann: Client) -> None:
    server.client("eve")
    eve = server.client("eve", "ours", Role.READER)
    assert begin(eve, "ours", b"x").json()["error"] == "not_allowed"
    assert eve.get(f"/v1/uploads/{begin(ann, 'ours', b'x').json()['id']}").status == 404


def test_what_nobody_finishes_is_forgotten(server: Server, ann: Client) -> None:
    begun = begin(ann, "ours", b"fives").json()
    send(ann, begun["parts"][0], b"fives")
    given_up = begin(ann, "ours", b"other").json()
    assert ann.request("DELETE", f"/v1/uploads/{given_up['id']}").status == 204
    assert server.registry.expire_uploads() == 0
    store = server.registry.blobs
    later = Registry(server.registry.database, store, clock=lambda: now() + KEPT + timedelta(days=1))
    later.begin_upload("ours", "0" * 64, 7)
    assert ann.get(f"/v1/uploads/{begun['id']}").status == 404
    assert kept(server) == []
    assert [later.expire_uploads(timedelta(0)) for _ in range(2)] == [1, 0]


def test_parts_go_straight_to_s3_and_come_from_there_without_credentials(
    serve: Callable[..., Server], database_url: str, s3_store_url: str, s3_endpoint: str, tmp_path: Path
) -> None:
    server = serve(database_url, s3_store_url)
    client, data, file = server.client(), noise(PART + 1), tmp_path / "file"
    file.write_bytes(data)
    begun = begin(client, "ours", data).json()
    assert all(part["url"].startswith(f"{s3_endpoint}/") for part in begun["parts"])
    assert urllib3.request("PUT", begun["parts"][1]["url"], body=data[PART:]).status == 200
    assert upload_file(connection_of(client), "ours", file, sha256=digest_of(data), size=len(data)) == PART
    assert kept(server) == [digest_of(data)]


def test_a_part_reaches_s3_through_the_server_too(
    serve: Callable[..., Server], database_url: str, s3_store_url: str
) -> None:
    server = serve(database_url, s3_store_url)
    client = server.client()
    begun = begin(client, "ours", b"by the server").json()
    assert client.request("PUT", f"/v1/uploads/{begun['id']}/parts/1", body=b"by the server").status == 204
    assert client.request("POST", f"/v1/uploads/{begun['id']}/complete").json()["state"] == "done"
    assert kept(server) == [digest_of(b"by the server")]


def test_what_s3_forgot_is_begun_again(serve: Callable[..., Server], database_url: str, s3_store_url: str) -> None:
    server = serve(database_url, s3_store_url)
    client = server.client()
    begun = begin(client, "ours", b"forgotten").json()
    server.registry.blobs.discard(begun["id"])
    assert client.get(f"/v1/uploads/{begun['id']}").status == 404
    assert begin(client, "ours", b"forgotten").json()["id"] != begun["id"]


@pytest.mark.ceph
def test_a_file_goes_through_a_server_in_front_of_ceph_and_comes_back(
    serve: Callable[..., Server], database_url: str, ceph_store_url: str, ceph_endpoint: str, tmp_path: Path
) -> None:
    server = serve(database_url, ceph_store_url)
    client, folder = server.client(), write_adapter(tmp_path / "adapter")
    data = noise(2 * PART + 7)
    (folder / "vocabulary.txt").write_bytes(data)
    begun = begin(client, "ours", data).json()
    assert all(part["url"].startswith(f"{ceph_endpoint}/") for part in begun["parts"])
    assert urllib3.request("PUT", begun["parts"][1]["url"], body=data[PART : 2 * PART], timeout=60).status == 200
    remote = RemoteRegistry(connection_of(client))
    moved: dict[str, int] = {}
    version = remote.push_folder(
        folder, Submission(AdapterName("ours", "a"), ()), progress=lambda what, done, _: moved.update({what: done})
    ).version
    assert version is not None
    assert moved["sending"] == version.size - PART, "the part that was there was sent again"
    pull = remote.pull(version, tmp_path / "pulled")
    assert pull.bytes_moved == version.size
    assert (tmp_path / "pulled" / "vocabulary.txt").read_bytes() == data
    assert list(server.registry.blobs.staged()) == []
    wrong = begin(client, "ours", b"right").json()
    assert urllib3.request("PUT", wrong["parts"][0]["url"], body=b"wrong", timeout=60).status == 200
    refused = client.request("POST", f"/v1/uploads/{wrong['id']}/complete")
    assert (refused.status, refused.json()["error"]) == (422, "digest_mismatch")
    assert list(server.registry.blobs.staged()) == []
