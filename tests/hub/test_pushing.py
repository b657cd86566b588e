"""What clients upload becomes commits and versions, as a push does."""

from pathlib import Path

import pytest

from registry.domain.records import Version
from registry.domain.reference import Reference
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.hub.clients import Client, ClientError
from tests.hub.conftest import WEIGHTS


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder holds, less what clients note there for themselves."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".cache" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def version_of(hub: Server, reference: str) -> Version:
    return hub.registry.find_version(Reference.parse(reference))


def versions_of(hub: Server, repo: str) -> list[int]:
    return [version.number for version in hub.registry.versions(Reference.parse(repo).adapter).items]


def test_an_uploaded_folder_becomes_a_version_that_comes_back_as_it_was(
    client: Client, hub: Server, repo: str, folder: Path, tmp_path: Path
) -> None:
    commit = client.do("hub.upload", repo=repo, folder=folder)
    version = version_of(hub, f"{repo}@v1")
    assert (version.commit, version.author) == (commit, "ann-owner")
    for revision in ("v1", "main", None, commit):
        found = Path(client.do("hub.snapshot", repo=repo, revision=revision, cache=tmp_path / "cache"))
        assert (found.name, contents(found)) == (commit, contents(folder))


def test_the_same_folder_again_makes_no_commit(client: Client, hub: Server, repo: str, folder: Path) -> None:
    first = client.do("hub.upload", repo=repo, folder=folder)
    assert client.do("hub.upload", repo=repo, folder=folder) == first
    assert versions_of(hub, repo) == [1]


def test_new_weights_are_the_next_version_and_a_readme_is_none(
    client: Client, hub: Server, repo: str, folder: Path
) -> None:
    client.do("hub.upload", repo=repo, folder=folder)
    commit = client.do("hub.upload_text", repo=repo, path="README.md", text="# what it is for\n")
    assert versions_of(hub, repo) == [1]
    client.do("hub.upload", repo=repo, folder=write_adapter(folder, seed=1))
    assert versions_of(hub, repo) == [2, 1]
    assert version_of(hub, f"{repo}@{commit}").number == 1


def test_the_command_uploads_and_downloads(client: Client, repo: str, folder: Path, tmp_path: Path) -> None:
    sent = client.hf("upload", repo, folder, ".", "--commit-message", "by hand")
    assert sent.returncode == 0, sent.stderr
    got = client.hf("download", repo, "--revision", "v1", "--local-dir", tmp_path / "got")
    assert got.returncode == 0, got.stderr
    assert contents(tmp_path / "got") == contents(folder)


def test_what_training_leaves_beside_an_adapter_stays_behind(
    client: Client, hub: Server, repo: str, folder: Path
) -> None:
    (folder / "training_args.bin").write_bytes(b"PK\x03\x04" + bytes(5000))
    (folder / "optimizer.pt").write_bytes(b"PK\x03\x04" + bytes(5000))
    client.do("hub.upload", repo=repo, folder=folder)
    paths = {file.path for file in version_of(hub, f"{repo}@v1").files}
    assert paths == {"README.md", "adapter_config.json", WEIGHTS}


def test_a_commit_on_a_parent_that_is_not_the_newest_is_refused(client: Client, repo: str, folder: Path) -> None:
    first = client.do("hub.upload", repo=repo, folder=folder)
    second = client.do("hub.commit_on", repo=repo, parent=first, text="one")
    with pytest.raises(ClientError, match="412") as refused:
        client.do("hub.commit_on", repo=repo, parent=first, text="two")
    assert second in refused.value.text


def test_files_and_folders_are_deleted_and_copied(client: Client, hub: Server, repo: str, folder: Path) -> None:
    (folder / "notes").mkdir()
    (folder / "notes" / "one.txt").write_text("one")
    (folder / "empty.txt").write_bytes(b"")
    client.do("hub.upload", repo=repo, folder=folder)
    client.do("hub.delete_file", repo=repo, path="empty.txt")
    client.do("hub.delete_folder", repo=repo, path="notes")
    client.do("hub.copy", repo=repo, source=WEIGHTS, to="copies/" + WEIGHTS)
    head = hub.registry.commit_at(Reference.parse(repo))
    assert {file.path for file in head.files} == {"README.md", "adapter_config.json", WEIGHTS, f"copies/{WEIGHTS}"}
