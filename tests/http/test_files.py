"""A version's files over HTTP: ranges and conditions as RFC 9110 has them, addresses that stay, nothing left open."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.remote.connection import Connection
from cli.remote.downloads import download_file
from registry.domain.errors import DigestMismatch, InvalidFile
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server

NAME = AdapterName("ours", "a")
WEIGHTS = "adapter_model.safetensors"
FILE = f"/v1/adapters/ours/a/versions/1/files/{WEIGHTS}"

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def data(server: Server, tmp_path: Path) -> bytes:
    """The weights of the one version that there is."""
    folder = write_adapter(tmp_path / "adapter")
    server.registry.push_folder(folder, Submission(NAME, ()))
    server.registry.promote(Reference.parse("ours/a@v1"), "production")
    return (folder / WEIGHTS).read_bytes()


@pytest.fixture
def ann(server: Server, data: bytes) -> Client:
    server.client("ann")
    return server.client("ann", "ours", Role.READER)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_file_comes_as_a_whole_and_says_what_it_is(ann: Client, data: bytes) -> None:
    answer = ann.get(FILE)
    assert (answer.status, answer.data) == (200, data)
    expected = {
        "Content-Length": str(len(data)),
        "ETag": f'"{digest_of(data)}"',
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"attachment; filename*=UTF-8''{WEIGHTS}",
        "Content-Type": "application/octet-stream",
    }
    assert expected.items() <= dict(answer.headers).items() or {k: answer.headers.get(k) for k in expected} == expected
    assert "immutable" in answer.headers["Cache-Control"]
    head = ann.request("HEAD", FILE)
    assert {k: head.headers.get(k) for k in expected} == expected
    assert (head.status, head.data) == (200, b"")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-", 5, None),
        ("bytes=100-199", 100, 200),
        ("bytes=-7", -7, None),
        ("bytes=10-99999999999", 10, None),
        ("bytes=-99999999999", 0, None),
        ("BYTES=3-4", 3, 5),
    ],
)
def test_a_range_is_answered_with_its_bytes(ann: Client, data: bytes, asked: str, start: int, end: int | None) -> None:
    answer = ann.get(FILE, headers={"Range": asked})
    assert (answer.status, answer.data) == (206, data[start:end])
    first, last, _ = slice(start, end).indices(len(data))
    assert answer.headers["Content-Range"] == f"bytes {first}-{last - 1}/{len(data)}"


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=", "bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=1-2;"])
def test_what_is_not_one_range_is_answered_with_the_file(ann: Client, data: bytes, asked: str) -> None:
    answer = ann.get(FILE, headers={"Range": asked})
    assert (answer.status, answer.data) == (200, data)


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0"])
def test_a_range_outside_the_file_is_refused(ann: Client, data: bytes, asked: str) -> None:
    answer = ann.get(FILE, headers={"Range": asked})
    assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{len(data)}")


def test_what_the_caller_has_is_not_sent_again(ann: Client, data: bytes) -> None:
    tag = f'"{digest_of(data)}"'
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = ann.get(FILE, headers={"If-None-Match": known, "Range": "bytes=0-1"})
        assert (answer.status, answer.data, answer.headers["ETag"]) == (304, b"", tag)
    assert ann.get(FILE, headers={"If-None-Match": '"other"'}).status == 200


def test_a_range_of_another_content_is_not_answered(ann: Client, data: bytes) -> None:
    for tag, status in ((f'"{digest_of(data)}"', 206), ('"other"', 200), (f'W/"{digest_of(data)}"', 200)):
        assert ann.get(FILE, headers={"Range": "bytes=0-1", "If-Range": tag}).status == status


def test_a_condition_on_another_content_fails(ann: Client, data: bytes) -> None:
    tag = f'"{digest_of(data)}"'
    for named, status in ((tag, 200), ("*", 200), (f'"other", {tag}', 200), ('"other"', 412), (f"W/{tag}", 412)):
        for method in ("GET", "HEAD"):
            assert ann.request(method, FILE, headers={"If-Match": named}).status == status
    assert ann.get(FILE, headers={"If-Match": '"other"'}).json()["error"] == "precondition_failed"
    date = "Sun, 22 Nov 2026 08:00:00 GMT"  # there is none to compare with: addresses have a tag, and no date
    assert ann.get(FILE, headers={"Range": "bytes=0-1", "If-Range": date}).status == 200
    assert ann.get(FILE, headers={"If-Modified-Since": date, "If-Unmodified-Since": date}).status == 200
    assert "Last-Modified" not in ann.get(FILE).headers
    assert ann.request("HEAD", FILE, headers={"Range": "bytes=0-1"}).status == 200


def test_an_empty_file_has_no_range(server: Server, ann: Client, data: bytes, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "more", seed=2)
    (folder / "notes ä\u202e'\".txt").write_bytes(b"")
    with pytest.raises(InvalidFile):  # it would turn what follows it around
        server.registry.push_folder(folder, Submission(NAME, ()))
    (folder / "notes ä\u202e'\".txt").rename(folder / "notes ä.txt")
    server.registry.push_folder(folder, Submission(NAME, ()))
    empty = "/v1/adapters/ours/a/versions/2/files/notes%20%C3%A4.txt"
    for asked, status in (("bytes=0-", 416), ("bytes=0-0", 416), ("bytes=-0", 416), ("bytes=-5", 200)):
        answer = ann.get(empty, headers={"Range": asked})
        assert (asked, answer.status) == (asked, status)
    answer = ann.get(empty)
    assert (answer.data, answer.headers["Content-Length"]) == (b"", "0")
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''notes%20%C3%A4.txt"


def test_only_what_never_moves_is_an_address(server: Server, ann: Client, data: bytes) -> None:
    version = server.registry.find_version(Reference(NAME))
    for pin in ("1", "v1", version.commit, f"sha256:{version.digest}"):
        assert ann.get(FILE.replace("versions/1", f"versions/{pin}")).status == 200
    for other in ("production", "2", "99999999999999999"):
        assert ann.get(FILE.replace("versions/1", f"versions/{other}")).status == 404
    assert ann.get(FILE.replace("versions/1", "versions/99999999999999999999")).status in (400, 404)


def test_other_peoples_files_look_like_none(server: Server, data: bytes) -> None:
    eve = server.client("eve")
    answers = [eve.get(FILE.replace("ours/a", name)) for name in ("ours/a", "ours/b")]
    assert [answer.json()["error"] for answer in answers] == ["adapter_not_found"] * 2


@pytest.mark.parametrize("path", ["nothing.json", "../adapter_config.json", "%2e%2e/x", "a%00b"])
def test_a_file_that_a_version_has_not_is_not_found(ann: Client, path: str) -> None:
    assert ann.get(FILE.replace(WEIGHTS, path)).status == 404


def test_a_revoked_versions_files_are_gone(server: Server, ann: Client) -> None:
    server.registry.set_status(Reference.parse("ours/a@v1"), Status.REVOKED, reason="leaked", force=True)
    assert ann.get(FILE).status == 410


def test_a_file_from_s3_is_a_redirect_that_nobody_keeps(
    serve: Callable[..., Server], database_url: str, s3_store_url: str, tmp_path: Path
) -> None:
    server = serve(database_url, s3_store_url)
    server.registry.add_base(TOY, toy_base())
    folder = write_adapter(tmp_path / "adapter")
    server.registry.push_folder(folder, Submission(NAME, ()))
    client, data = server.client(), (folder / WEIGHTS).read_bytes()
    answer = client.get(FILE)
    assert (answer.status, answer.headers["Cache-Control"]) == (302, "no-store")
    assert client.request("HEAD", FILE).headers["Content-Length"] == str(len(data))
    to = tmp_path / "fetched"
    assert download_file(Connection(server.url, client.token), FILE, to, sha256=digest_of(data), size=len(data)) == len(
        data
    )
    assert to.read_bytes() == data


# -- the client -------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_whole_or_not_at_all(ann: Client, data: bytes, tmp_path: Path) -> None:
    to, connection = tmp_path / "folder" / "file", Connection(ann.url, ann.token)
    for sha256, size in (("0" * 64, len(data)), (digest_of(data), len(data) + 1)):
        with pytest.raises(DigestMismatch):
            download_file(connection, FILE, to, sha256=sha256, size=size)
        assert list(to.parent.iterdir()) == []
    to.write_bytes(b"older")
    assert download_file(connection, FILE, to, sha256=digest_of(data), size=len(data)) == len(data)
    assert to.read_bytes() == data
    assert list(to.parent.iterdir()) == [to]


def test_what_an_earlier_attempt_left_is_only_used_if_it_is_right(ann: Client, data: bytes, tmp_path: Path) -> None:
    to, connection, sha256 = tmp_path / "file", Connection(ann.url, ann.token), digest_of(data)
    partial = tmp_path / f".{digest_of(f'{sha256} file'.encode())}.part"
    for left, moves in ((data[:100], len(data) - 100), (b"wrong", 2 * len(data) - 5), (data + b"more", len(data))):
        partial.write_bytes(left)
        assert download_file(connection, FILE, to, sha256=sha256, size=len(data)) == moves
        assert to.read_bytes() == data
    assert list(tmp_path.glob(".*.part")) == []
