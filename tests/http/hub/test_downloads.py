"""Files by revision: what the Hub's client fetches, by how many requests, and what its headers say."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from registry.domain.reference import AdapterName
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Server
from tests.http.hub.conftest import SUPPORT, Library

WEIGHTS = "adapter_model.safetensors"
FILES = {"README.md", "adapter_config.json", WEIGHTS, "eval/deep/ü.json", "notes.txt"}
RESOLVE = f"/{SUPPORT}/resolve"


def git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def relative(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


@pytest.mark.parametrize("revision", [None, "production", "v3", "refs/heads/production", "v2", "main"])
def test_a_snapshot_is_the_revisions_files(library: Library, tmp_path: Path, revision: str | None) -> None:
    folder = snapshot_download(
        SUPPORT, revision=revision, endpoint=library.server.url, token=library.client.token, cache_dir=tmp_path
    )
    expected = {None: "main", "production": "v1", "refs/heads/production": "v1"}.get(revision, revision)
    assert Path(folder).name == library.commits[str(expected)]
    assert relative(folder) == FILES
    files = HfApi(endpoint=library.server.url, token=library.client.token).list_repo_tree(
        SUPPORT, revision=revision, recursive=True
    )
    for file in files:
        if hasattr(file, "blob_id"):
            data = (Path(folder) / file.path).read_bytes()
            assert len(data) == file.size
            assert file.lfs is None or file.lfs.sha256 == hashlib.sha256(data).hexdigest()
            assert file.lfs is not None or file.blob_id == git_id(data)


def test_what_is_in_the_cache_costs_no_more_requests_than_on_the_hub(
    library: Library, tmp_path: Path, asked: list[str]
) -> None:
    given = {"endpoint": library.server.url, "token": library.client.token, "cache_dir": tmp_path}

    def requests(call: Callable[..., str], *names: str, revision: str) -> list[str]:
        asked.clear()
        call(SUPPORT, *names, revision=revision, **given)
        return asked.copy()

    commit = library.commits["v1"]
    first = requests(snapshot_download, revision="production")
    assert len([line for line in first if line.startswith("GET /api/")]) == 2
    assert requests(snapshot_download, revision="production") == [f"GET /api/models/{SUPPORT}/revision/production"]
    assert requests(snapshot_download, revision=commit) == []
    assert requests(hf_hub_download, WEIGHTS, revision="production") == [f"HEAD {RESOLVE}/production/{WEIGHTS}"]
    assert requests(hf_hub_download, WEIGHTS, revision=commit) == []


def test_both_kinds_of_file_have_the_headers_that_clients_need(library: Library) -> None:
    commit = library.commits["v1"]
    for path in (WEIGHTS, "adapter_config.json", "notes.txt"):
        answer = library.client.get(f"{RESOLVE}/production/{path}")
        tag = hashlib.sha256(answer.data).hexdigest() if path == WEIGHTS else git_id(answer.data)
        expected = {
            "X-Repo-Commit": commit,
            "ETag": f'"{tag}"',
            "X-Linked-ETag": f'"{tag}"',
            "X-Linked-Size": str(len(answer.data)),
            "Content-Length": str(len(answer.data)),
            "Accept-Ranges": "bytes",
            "Content-Disposition": f"attachment; filename*=UTF-8''{path}",
            "Cache-Control": "private, no-cache",
        }
        head = library.client.request("HEAD", f"{RESOLVE}/production/{path}")
        for seen in (answer, head):
            assert {name: seen.headers.get(name) for name in expected} == expected
            assert "X-Xet-Hash" not in seen.headers
        assert head.data == b""
    assert "immutable" in library.client.get(f"{RESOLVE}/{commit}/{path}").headers["Cache-Control"]


def test_ranges_and_conditions_hold(library: Library) -> None:
    address = f"{RESOLVE}/v3/{WEIGHTS}"
    whole = library.client.get(address)
    part = library.client.get(address, headers={"Range": "bytes=10-19"})
    assert (part.status, part.data, part.headers["X-Repo-Commit"]) == (206, whole.data[10:20], library.commits["v3"])
    assert part.headers["Content-Range"] == f"bytes 10-19/{len(whole.data)}"
    assert library.client.get(address, headers={"Range": f"bytes={len(whole.data)}-"}).status == 416
    assert library.client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status == 304
    assert library.client.get(address, headers={"If-Match": '"other"'}).status == 412


def test_what_is_absent_is_told_in_the_clients_own_errors(library: Library, tmp_path: Path) -> None:
    def fetch(name: str, path: str, revision: str = "main", token: str | None = library.client.token) -> None:
        hf_hub_download(
            name, path, revision=revision, endpoint=library.server.url, token=token or False, cache_dir=tmp_path
        )

    with pytest.raises(EntryNotFoundError):
        fetch(SUPPORT, "generation_config.json")
    assert list(tmp_path.rglob(".no_exist/*/generation_config.json")), "the client doesn't remember it"
    for revision in ("v9", "staging", "0" * 40, "feature/x", "deadbee"):
        with pytest.raises(RevisionNotFoundError, match=revision):
            fetch(SUPPORT, WEIGHTS, revision)
    for name in ("theirs/hidden", "acme/absent", "HuggingFaceTB/SmolLM2-135M"):
        with pytest.raises(RepositoryNotFoundError, match="base model") as absent:
            fetch(name, "config.json")
        assert name in str(absent.value) and absent.value.response.status_code == 404
    with pytest.raises(RepositoryNotFoundError, match="base model"):
        fetch("bert-base-uncased", "config.json")
    with pytest.raises(RepositoryNotFoundError, match="HF_TOKEN") as anonymous:
        fetch(SUPPORT, WEIGHTS, token=None)
    assert anonymous.value.response.status_code == 401
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(endpoint=library.server.url, token="hf_wrong").model_info(SUPPORT)


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_withdrawn_version_is_not_loaded_from_a_cache_by_its_name(server: Server, tmp_path: Path) -> None:
    registry = server.registry
    registry.push_folder(write_adapter(tmp_path / "a"), Submission(AdapterName("acme", "a"), ()))
    client = server.client()
    given = {"endpoint": server.url, "token": client.token, "cache_dir": tmp_path / "cache"}
    for revision in ("v1", "main"):
        snapshot_download("acme/a", revision=revision, **given)
    registry.delete_adapter(AdapterName("acme", "a"), reason="wrong corpus")
    for revision in ("v1", "main"):
        with pytest.raises(RevisionNotFoundError, match=r"purged|deleted"):
            snapshot_download("acme/a", revision=revision, **given)
        with pytest.raises(RevisionNotFoundError, match=r"purged|deleted"):
            hf_hub_download("acme/a", WEIGHTS, revision=revision, **given)
    assert not HfApi(endpoint=server.url, token=client.token).repo_exists("acme/a")


def test_datasets_and_pull_requests_are_refused_by_name(library: Library, tmp_path: Path) -> None:
    given = {"endpoint": library.server.url, "token": library.client.token, "cache_dir": tmp_path}
    with pytest.raises(LocalEntryNotFoundError, match="datasets are not offered"):
        snapshot_download("acme/data", repo_type="dataset", **given)
    for path in ("/datasets/acme/data/resolve/main/x", "/api/spaces/acme/x", f"{RESOLVE}/refs%2Fpr%2F1/{WEIGHTS}"):
        answer = library.client.get(path)
        assert answer.status == 501 and "not offered" in answer.headers["X-Error-Message"]
    with pytest.raises(HfHubHTTPError, match="discussions"):
        list(library.api.get_repo_discussions(SUPPORT))
    with pytest.raises(HfHubHTTPError, match="not offered"):
        library.api.list_repo_likers(SUPPORT).__iter__().__next__()


@pytest.fixture
def on_s3(serve: Callable[..., Server], database_url: str, s3_store_url: str, tmp_path: Path) -> Server:
    """A server whose blobs are in a bucket."""
    server = serve(database_url, s3_store_url.replace("127.0.0.1", "localhost"))
    server.registry.add_base(TOY, toy_base())
    server.registry.push_folder(write_adapter(tmp_path / "adapter"), Submission(AdapterName("acme", "a"), ()))
    return server


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_large_files_come_from_the_bucket(on_s3: Server, tmp_path: Path, asked: list[str]) -> None:
    client = on_s3.client()
    weights = (tmp_path / "adapter" / WEIGHTS).read_bytes()
    head = client.request("HEAD", f"/acme/a/resolve/main/{WEIGHTS}")
    assert head.status == 302 and urlsplit(head.headers["Location"]).netloc not in on_s3.url
    expected = {"X-Linked-Size": str(len(weights)), "X-Linked-ETag": f'"{hashlib.sha256(weights).hexdigest()}"'}
    assert {name: head.headers[name] for name in expected} == expected
    assert len(head.headers["X-Repo-Commit"]) == 40 and head.headers["Cache-Control"] == "no-store"
    assert client.get("/acme/a/resolve/main/adapter_config.json").status == 200
    folder = snapshot_download("acme/a", endpoint=on_s3.url, token=client.token, cache_dir=tmp_path / "cache")
    assert (Path(folder) / WEIGHTS).read_bytes() == weights
    own = [line for line in asked if line.endswith(WEIGHTS)]
    assert own == [f"HEAD /acme/a/resolve/{Path(folder).name}/{WEIGHTS}"], "its bytes passed by the registry"


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_bucket_at_the_registrys_own_host_is_streamed_from(
    serve: Callable[..., Server], database_url: str, s3_store_url: str, tmp_path: Path
) -> None:
    address = "http://same.example:9000"
    server = serve(
        database_url, f"{s3_store_url}&public_endpoint_url={address}", {"ADAPTERS_PUBLIC_URL": "http://same.example"}
    )
    server.registry.push_folder(write_adapter(tmp_path / "adapter"), Submission(AdapterName("acme", "a"), ()))
    client, path = server.client(), f"/acme/a/resolve/main/{WEIGHTS}"
    assert client.request("HEAD", path, headers={"Host": "same.example"}).status == 200
    assert client.request("HEAD", path).status == 302
