"""Pushing with the Hub's own client: what becomes a commit, what becomes a version, and what is refused in words."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError
from urllib3.exceptions import ProtocolError

from registry.domain.reference import AdapterName, Reference
from registry.http.hub.commit_lines import MOST_LINES, MOST_OF_A_LINE
from registry.http.limits import MOST
from tests.factories import TOY, write_adapter
from tests.http.hub.writing import Desk, api_of, refused

# What huggingface_hub's own client of HTTP says of how it is called.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
WEIGHTS = "adapter_model.safetensors"


def upload(desk: Desk, folder: Path, **options: Any) -> str:
    return str(desk.api.upload_folder(repo_id=desk.repo, folder_path=folder, **options).oid)


def test_a_folder_becomes_a_version_without_what_training_left(desk: Desk, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    for left in ("training_args.bin", "optimizer.pt", "checkpoint-5/adapter_config.json", "runs/events.out"):
        (folder / left).parent.mkdir(exist_ok=True)
        (folder / left).write_bytes(b"\x80\x02}q\x00.")
    (folder / "notes.txt").write_text("")
    info = desk.api.upload_folder(
        repo_id=desk.repo, folder_path=folder, commit_message="first", commit_description="of many"
    )
    assert desk.paths == ["README.md", "adapter_config.json", WEIGHTS, "notes.txt"]
    assert (desk.main.id, desk.main.version, desk.main.author) == (info.oid, 1, "ann")
    assert desk.main.message == "first\n\nof many"
    assert info.commit_url == f"{desk.server.url}/{desk.repo}/commit/{info.oid}"
    found = desk.registry.find_version(Reference.parse(desk.repo))
    assert (found.base.name, found.base.evidence) == (TOY, "structural")
    with desk.registry.open_file(found, WEIGHTS) as stream:
        assert stream.read() == (folder / WEIGHTS).read_bytes()


def test_the_same_folder_again_makes_no_commit_and_sends_nothing(desk: Desk, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    first = upload(desk, folder)
    newest = desk.registry.newest_cursor()
    assert upload(desk, folder, commit_message="again") == first
    assert desk.registry.newest_cursor() == newest
    (folder / "README.md").write_text("# words\n")
    assert upload(desk, folder) != first
    assert desk.main.version == 1


def test_files_come_change_are_copied_and_go(desk: Desk, tmp_path: Path) -> None:
    upload(desk, write_adapter(tmp_path))
    api, repo = desk.api, desk.repo
    api.upload_file(repo_id=repo, path_or_fileobj=b"hello", path_in_repo="docs/a.txt")
    api.upload_file(repo_id=repo, path_or_fileobj=b"hello", path_in_repo="docs/b.txt")
    copies = [CommitOperationCopy(WEIGHTS, "copy/x.safetensors"), CommitOperationCopy("docs/a.txt", "c.txt")]
    api.create_commit(repo, [*copies, CommitOperationDelete("docs/b.txt")], commit_message="copy")
    assert desk.paths == ["README.md", "adapter_config.json", WEIGHTS, "c.txt", "copy/x.safetensors", "docs/a.txt"]
    api.delete_folder("copy", repo)
    api.delete_file("c.txt", repo)
    assert desk.paths == ["README.md", "adapter_config.json", WEIGHTS, "docs/a.txt"]
    with pytest.raises(EntryNotFoundError, match="A file with this name doesn't exist"):
        api.delete_file("absent.txt", repo)
    upload(desk, write_adapter(tmp_path / "new", seed=1), delete_patterns=["docs/*"])
    assert desk.paths == ["README.md", "adapter_config.json", WEIGHTS]


def test_a_stale_parent_is_refused_and_a_lost_answer_is_given_again(desk: Desk) -> None:
    api, repo = desk.api, desk.repo
    first = api.upload_file(repo_id=repo, path_or_fileobj=b"1", path_in_repo="a.txt").oid

    def commit(text: bytes) -> str:
        addition = [CommitOperationAdd("b.txt", text)]
        return str(api.create_commit(repo, addition, commit_message="b", parent_commit=first).oid)

    second = commit(b"2")
    assert commit(b"2") == second
    with refused(412, "main is at"):
        commit(b"3")
    assert desk.main.id == second


def test_concurrent_commits_all_happen(desk: Desk) -> None:
    def add(number: int) -> str:
        path = f"{number}.txt"
        return str(desk.api.upload_file(repo_id=desk.repo, path_or_fileobj=path.encode(), path_in_repo=path).oid)

    with ThreadPoolExecutor(6) as threads:
        assert len(set(threads.map(add, range(6)))) == 6
    assert desk.paths == [f"{number}.txt" for number in range(6)]


def test_what_is_no_good_adapter_is_refused_in_words_and_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    api, repo = desk.api, desk.repo
    with refused(400, r"does not fit the base toys/toy-1: .*layers\.0\.q_proj"):
        upload(desk, write_adapter(tmp_path / "narrow", width=8))
    with refused(400, r"adapter_model\.safetensors: it is missing"):
        api.upload_file(repo_id=repo, path_or_fileobj=b"{}", path_in_repo="adapter_config.json")
    with refused(400, r"adapter_model\.bin: weights in a pickle .* save_pretrained"):
        api.upload_file(repo_id=repo, path_or_fileobj=b"\x80\x02", path_in_repo="adapter_model.bin")
    assert desk.registry.adapter(AdapterName.parse(repo)).head is None


def test_a_gitignore_counts_that_is_pushed_or_that_is_there(desk: Desk, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    (folder / ".gitignore").write_text("*.txt\n!kept.txt\n")
    for name in ("a.txt", "kept.txt"):
        (folder / name).write_text("x")
    upload(desk, folder)
    (folder / "b.txt").write_text("x")
    (folder / "c.json").write_text("{}")
    (folder / ".gitignore").unlink()
    upload(desk, folder)
    assert desk.paths == [".gitignore", "README.md", "adapter_config.json", WEIGHTS, "c.json", "kept.txt"]


def test_only_main_of_what_is_there_takes_commits(desk: Desk, tmp_path: Path) -> None:
    upload(desk, write_adapter(tmp_path))
    desk.api.create_branch(desk.repo, branch="production")

    def push(repo: str = desk.repo, **options: Any) -> None:
        desk.api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x.txt", **options)

    for revision in ("production", "v1", desk.main.id):
        with refused(403, "push to main"):
            push(revision=revision)
    with refused(403, f"only shows {desk.repo}@production"):
        push(f"{desk.repo}.at.production")
    with pytest.raises(RevisionNotFoundError):
        push(revision="nowhere")
    with refused(501, "pull requests"):
        push(create_pr=True)
    with pytest.raises(RepositoryNotFoundError):
        push("ours/absent")
    assert desk.paths == ["README.md", "adapter_config.json", WEIGHTS]


def test_readers_push_nothing_and_other_teams_find_nothing(desk: Desk) -> None:
    addition = {"repo_id": desk.repo, "path_or_fileobj": b"x", "path_in_repo": "x.txt"}
    with refused(403, "rita may not write"):
        api_of(desk.rita).upload_file(**addition)
    with pytest.raises(RepositoryNotFoundError):
        api_of(desk.eve).upload_file(**addition)
    body = lines({"key": "header", "value": {"summary": "x"}}, text("x.txt", b"x"))
    assert (
        desk.post("commit/main", desk.rita, body=body).status,
        desk.post("commit/main", desk.eve, body=body).status,
    ) == (403, 404)
    assert desk.registry.adapter(AdapterName.parse(desk.repo)).head is None


# -- lines ------------------------------------------------------------------------------------------------------------

HEADER = {"key": "header", "value": {"summary": "x"}}


def lines(*found: object) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in found)


def text(path: str, data: bytes, **more: object) -> dict[str, Any]:
    return {
        "key": "file",
        "value": {"path": path, "content": base64.b64encode(data).decode(), "encoding": "base64", **more},
    }


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "begins with a header"),
        (lines(text("a.txt", b"x")), 400, "begins with a header"),
        (lines(HEADER, HEADER), 400, "has no other"),
        (lines(HEADER, {"key": "copyFile", "value": {"path": "a"}}), 400, "copyFile"),
        (lines(HEADER, text("a.txt", b"x", executable=True)), 400, "executable"),
        (lines({"key": "header", "value": {"summary": "x", "sudo": 1}}), 400, "sudo"),
        (lines({"key": "header", "value": {"summary": "x", "parentCommit": "HEAD"}}), 400, "parentCommit"),
        (
            lines(HEADER, text("a.txt", b"x") | {"value": {"path": "a", "content": "?", "encoding": "base64"}}),
            400,
            "base64",
        ),
        (lines(HEADER, {"key": "lfsFile", "value": {"path": "a.txt", "algo": "md5", "oid": "0" * 64}}), 400, "sha256"),
        (
            lines(HEADER, {"key": "lfsFile", "value": {"path": "a.txt", "algo": "sha256", "oid": "0" * 64}}),
            400,
            "a.txt: its bytes",
        ),
        (lines(HEADER, text("../a.txt", b"x")), 400, "not allowed"),
        (lines(HEADER, text("a.pkl", b"x")), 400, "no file of an adapter"),
        (lines(HEADER, text("a.txt", bytes(2**20 + 1))), 413, "as a large one"),
        (b"x" * (MOST_OF_A_LINE + 1), 413, "as a large one"),
        (lines(HEADER) + lines({"key": "deletedFile", "value": {"path": "x"}}) * MOST_LINES, 413, "make several"),
        (b"[" * 100_000, 400, "line 1"),
        (b"\xff\xfe\n", 400, "line 1"),
    ],
)
def test_a_body_that_is_none_of_a_commit_is_refused(desk: Desk, body: bytes, status: int, said: str) -> None:
    answer = desk.post("commit/main", body=body)
    assert (answer.status, said in answer.json()["error"]) == (status, True), answer.data
    assert desk.registry.adapter(AdapterName.parse(desk.repo)).head is None


def test_only_the_calls_that_need_them_take_large_documents(desk: Desk) -> None:
    files = [{"path": f"{number}.txt", "size": 600, "sample": "A" * 700} for number in range(3_000)]
    answer = desk.post("preupload/main", json={"files": files})
    assert (answer.status, len(answer.json()["files"])) == (200, 3_000)
    large = b" " * (MOST + 1)
    for path in (f"/api/models/{desk.repo}%2Fcommit%2Fmain/settings", f"/api/models/{desk.repo}/tag/commit"):
        method = "PUT" if path.endswith("settings") else "POST"
        assert desk.ann.request(method, path, body=large).status == 413


def test_a_body_comes_in_any_pieces_and_a_cut_one_leaves_nothing(desk: Desk) -> None:
    body = lines(HEADER, text("a.txt", b"x" * 100_000), text("b.txt", "ü".encode()))[:-1]
    pieces = [body[start : start + 7_001] for start in range(0, len(body), 7_001)]
    answer = desk.post("commit/main", body=iter(pieces))
    assert (answer.status, desk.paths) == (200, ["a.txt", "b.txt"])

    def cut() -> Any:
        yield lines(HEADER, text("c.txt", b"c"))
        raise ConnectionError

    blobs = [blob.sha256 for blob in desk.registry.blobs.list()]
    with pytest.raises(ProtocolError):
        desk.post("commit/main", body=cut())
    assert desk.post("commit/main", body=lines(HEADER)).json()["commitOid"] == desk.main.id
    assert desk.paths == ["a.txt", "b.txt"]
    assert [blob.sha256 for blob in desk.registry.blobs.list()] == blobs
