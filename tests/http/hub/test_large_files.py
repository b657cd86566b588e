"""Large files over Git LFS: whole and in parts, through the server and to S3, and what an address is good for."""

import hashlib
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from huggingface_hub import CommitOperationAdd, constants
from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

from registry.blobs import parts
from registry.domain.quotas import Quota
from registry.domain.rights import Role
from tests.http.conftest import Client, Server
from tests.http.hub.writing import Desk, api_of, refused

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
MIB = 1 << 20


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def batch(
    desk: Desk, *contents: bytes, transfers: tuple[str, ...] = ("basic", "multipart"), **more: Any
) -> dict[str, Any]:
    """What the server says of files, checked to be about them."""
    objects = [{"oid": hashlib.sha256(data).hexdigest(), "size": len(data)} for data in contents]
    body = {"operation": "upload", "transfers": transfers, "objects": objects, "hash_algo": "sha256", **more}
    answer = desk.post(f"/{desk.repo}.git/info/lfs/objects/batch", json=body)
    assert answer.status == 200, answer.data
    document: dict[str, Any] = answer.json()
    assert [{"oid": line["oid"], "size": line["size"]} for line in document["objects"]] == objects
    return document


def actions(desk: Desk, data: bytes, *transfers: str) -> dict[str, Any]:
    found: dict[str, Any] = batch(desk, data, transfers=transfers or ("basic", "multipart"))["objects"][0]["actions"]
    return found


def send(desk: Desk, url: str, data: bytes, method: str = "PUT") -> urllib3.BaseHTTPResponse:
    """Without a token."""
    return desk.server.pool.request(method, url, body=data, retries=False)


def verify(desk: Desk, url: str, data: bytes, client: Client | None = None) -> urllib3.BaseHTTPResponse:
    path = url.removeprefix(desk.server.url)
    return desk.post(path, client, json={"oid": hashlib.sha256(data).hexdigest(), "size": len(data)})


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest parts that S3 takes."""
    monkeypatch.setattr(parts, "SMALLEST", 5 * MIB)


@pytest.fixture(params=["folder", "s3"])
def stored(
    request: pytest.FixtureRequest,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    sqlite_template: Path,
    tmp_path: Path,
) -> Iterator[Desk]:
    """A server on each kind of store."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    disable_progress_bars()
    blobs = request.getfixturevalue("s3_store_url") if request.param == "s3" else None
    database = tmp_path / "catalog.db"
    database.write_bytes(sqlite_template.read_bytes())
    server = serve(f"sqlite:///{database}", blobs)
    server.registry.create_team("ours")
    ann = server.client("ann", "ours", Role.WRITER)
    api_of(ann).create_repo("ours/a")
    yield Desk(server, ann, ann, ann, "ours/a")
    enable_progress_bars()


def test_a_client_sends_3_mb_whole_and_12_mb_in_parts(stored: Desk, small_parts: None, tmp_path: Path) -> None:
    files = {"small.json": content(3 * MIB, 1), "large.json": content(12 * MIB, 2)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    transfers = {name: batch(stored, data)["transfer"] for name, data in files.items()}
    assert transfers == {"small.json": "basic", "large.json": "multipart"}
    additions = [CommitOperationAdd(name, str(tmp_path / name)) for name in files]
    stored.api.create_commit(stored.repo, additions, commit_message="large")
    for name, data in files.items():
        with stored.registry.open_file(stored.main, name) as stream:
            assert stream.read() == data
    assert all("actions" not in line for line in batch(stored, *files.values())["objects"])


def test_every_part_has_one_address_and_the_client_cuts_as_the_server_does(desk: Desk, small_parts: None) -> None:
    data = content(12 * MIB, 3)
    upload = actions(desk, data)["upload"]
    header = dict(upload["header"])
    size = int(header.pop("chunk_size"))
    assert sorted(header) == ["1", "2", "3"]
    etags = {}
    for number in ("3", "1", "2"):
        start = (int(number) - 1) * size
        answer = send(desk, header[number], data[start : start + size])
        assert answer.status == 200
        etags[number] = answer.headers["ETag"]
    sent = {
        "oid": hashlib.sha256(data).hexdigest(),
        "parts": [{"partNumber": int(n), "etag": tag} for n, tag in etags.items()],
    }
    few = {**sent, "parts": sent["parts"][:2]}
    path = upload["href"].removeprefix(desk.server.url)
    nobody = desk.server.nobody
    assert desk.post(path, nobody, json=few).status == 400
    assert desk.post(path, nobody, json={**sent, "oid": "0" * 64}).status == 400
    assert desk.post(path, nobody, json=sent).status == desk.post(path, nobody, json=sent).status == 200
    assert "actions" not in batch(desk, data)["objects"][0]


def test_whoever_only_knows_basic_sends_any_size_whole(desk: Desk, small_parts: None) -> None:
    data = content(12 * MIB, 4)
    found = actions(desk, data, "basic")
    assert send(desk, found["upload"]["href"], data + b"x").status == 400
    assert send(desk, found["upload"]["href"], data[:-1]).status == 400
    assert verify(desk, found["verify"]["href"], data).status == 409
    assert send(desk, found["upload"]["href"], data).status == 200
    assert verify(desk, found["verify"]["href"], data).status == 200
    assert send(desk, found["upload"]["href"], data).status == 200  # sent again, since the answer was lost
    assert verify(desk, found["verify"]["href"], data).status == 200


def test_other_bytes_than_were_said_are_refused_when_they_are_verified(desk: Desk) -> None:
    data = content(1000, 5)
    found = actions(desk, data)
    assert send(desk, found["upload"]["href"], content(1000, 6)).status == 200
    answer = verify(desk, found["verify"]["href"], data)
    assert (answer.status, "expected sha256:" in answer.json()["error"]) == (400, True)
    assert "actions" in batch(desk, data)["objects"][0]


def test_an_address_is_good_for_its_part_its_time_and_its_token(desk: Desk) -> None:
    data = content(1000, 7)
    other = desk.server.client("ann")
    about = Desk(desk.server, other, other, other, desk.repo)
    href = actions(about, data)["upload"]["href"]
    assert send(desk, href.replace("parts", "completion"), data, method="POST").status == 403
    assert urlsplit(href).path == "/api/lfs/parts"  # what logs have of it
    assert send(desk, href[:-1] + ("A" if href[-1] != "A" else "B"), data).status in (200, 403)
    assert send(desk, f"{desk.server.url}/api/lfs/parts?grant={'x' * 50}.{'y' * 43}", data).status == 403
    token = max(token.id for token in desk.registry.tokens() if token.principal == "ann")
    desk.registry.revoke_token(token)
    answer = send(desk, href, data)
    assert (answer.status, "stands no more" in answer.json()["error"]) == (403, True)


def test_an_address_ends_with_the_right_to_write(desk: Desk) -> None:
    data = content(1000, 8)
    walt = desk.server.client("walt")
    walt = desk.server.client("walt", "ours", Role.WRITER)
    href = actions(Desk(desk.server, walt, walt, walt, desk.repo), data)["upload"]["href"]
    desk.registry.set_role("ours", "walt", Role.READER)
    assert send(desk, href, data).status == 404


def test_two_who_send_the_same_file_at_once_both_have_it_sent(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "same.json"
    path.write_bytes(content(4 * MIB, 9))

    def push(number: int) -> None:
        desk.api.upload_file(repo_id=desk.repo, path_or_fileobj=str(path), path_in_repo=f"{number}.json")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(push, range(4)))
    assert desk.paths == [f"{number}.json" for number in range(4)]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"operation": "download"}, 501, "by their path"),
        ({"hash_algo": "md5"}, 409, "sha256"),
        ({"objects": [{"oid": "x", "size": 1}]}, 400, "objects.0.oid"),
        ({"objects": [{"oid": "0" * 64, "size": 2**41}]}, 400, "bytes"),
        ({"objects": [{"oid": f"{n:064x}", "size": 2**40} for n in range(21)]}, 413, "fewer"),
        ({"ref": {"name": "v1"}}, 404, "v1"),
    ],
)
def test_a_batch_that_can_not_be_is_refused(desk: Desk, body: dict[str, Any], status: int, said: str) -> None:
    whole = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}], **body}
    answer = desk.post(f"/{desk.repo}.git/info/lfs/objects/batch", json=whole)
    assert (answer.status, said in answer.json()["error"]) == (status, True), answer.data


def test_readers_get_no_addresses_and_other_teams_find_nothing(desk: Desk) -> None:
    body = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": 1}]}
    path = f"/{desk.repo}.git/info/lfs/objects/batch"
    assert [desk.post(path, who, json=body).status for who in (desk.rita, desk.eve, desk.server.nobody)] == [
        403,
        404,
        401,
    ]
    found = actions(desk, b"x" * 10)
    statuses = [verify(desk, found["verify"]["href"], b"x" * 10, who).status for who in (desk.rita, desk.eve)]
    assert statuses == [404, 404]


def test_a_quota_is_told_to_the_client(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content(2 * MIB, 10))
    desk.registry.set_quota("ours", Quota(bytes=MIB))
    try:
        error = batch(desk, path.read_bytes())["objects"][0]["error"]
        assert (error["code"], "may have 1,048,576" in error["message"]) == (422, True)
        with refused(507, "may have"):  # and before that, when the client asks what to do with the file
            desk.api.upload_file(repo_id=desk.repo, path_or_fileobj=str(path), path_in_repo="a.json")
    finally:
        desk.registry.set_quota("ours", Quota())
