"""What clients read of a repository: its facts, files, revisions, history, and lists of repositories."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Publication, Submission
from tests.factories import TOY, write_adapter
from tests.http.conftest import Server
from tests.hub.calls import one_file
from tests.hub.clients import Client
from tests.hub.conftest import TEAM, WEIGHTS

NAME = AdapterName.parse("team/to-be-read")


@pytest.fixture(scope="session")
def commits(hub: Server, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three commits: two versions, and a note after them; production is the first version."""
    folder = tmp_path_factory.mktemp("read")
    pushed: list[Publication] = []
    for number in (1, 2):
        write_adapter(folder, seed=number)
        pushed.append(hub.registry.push_folder(folder, Submission(NAME, (), message=f"number {number}")))
    (folder / "README.md").write_text("# a note\n")
    pushed.append(hub.registry.push_folder(folder, Submission(NAME, (), message="a note")))
    hub.registry.promote(Reference.parse(f"{NAME}@v1"), "production")
    return [publication.commit for publication in pushed]


def read(repo: str) -> dict[str, Any]:
    from huggingface_hub import HfApi

    api = HfApi()
    info = api.model_info(repo, files_metadata=True)
    refs = api.list_repo_refs(repo)
    weights = next(file for file in info.siblings if file.rfilename == "adapter_model.safetensors")
    entries = list(api.list_repo_tree(repo, recursive=True, expand=True))
    return {
        "id": info.id,
        "sha": info.sha,
        "private": info.private,
        "tags": info.tags,
        "library": info.library_name,
        "siblings": sorted(file.rfilename for file in info.siblings),
        "weights": [weights.size, weights.lfs.sha256],
        "branches": {branch.name: branch.target_commit for branch in refs.branches},
        "versions": {tag.name: tag.target_commit for tag in refs.tags},
        "tree": {entry.path: entry.size for entry in entries},
        "changed": {entry.path: entry.last_commit.oid for entry in entries},
        "files": sorted(api.list_repo_files(repo, revision="v1")),
        "known": [entry.path for entry in api.get_paths_info(repo, [weights.rfilename, "nothing"], revision="v2")],
        "commits": [commit.commit_id for commit in api.list_repo_commits(repo)],
        "titles": [commit.title for commit in api.list_repo_commits(repo)],
        "there": [
            api.repo_exists(repo),
            api.repo_exists("team/nothing"),
            api.revision_exists(repo, "production"),
            api.revision_exists(repo, "nothing"),
            api.file_exists(repo, "README.md"),
            api.file_exists(repo, "nothing"),
        ],
    }


def test_a_repository_is_read_as_it_is(client: Client, hub: Server, commits: list[str]) -> None:
    found = client.do(read, repo=str(NAME))
    weights = next(file for file in hub.registry.commit_at(Reference(NAME)).files if file.path == WEIGHTS)
    names = ["README.md", "adapter_config.json", WEIGHTS]
    assert (found["id"], found["sha"], found["private"]) == (str(NAME), commits[2], True)
    assert {"peft", f"base_model:{TOY}"} <= set(found["tags"])
    assert found["siblings"] == sorted(found["tree"]) == found["files"] == names
    assert found["weights"] == [weights.size, weights.sha256]
    assert found["branches"] == {"main": commits[2], "production": commits[0]}
    assert found["versions"] == {"v1": commits[0], "v2": commits[1]}
    assert found["changed"] == {"README.md": commits[2], "adapter_config.json": commits[0], WEIGHTS: commits[1]}
    assert found["known"] == [WEIGHTS]
    assert (found["commits"], found["titles"]) == (commits[::-1], ["a note", "number 2", "number 1"])
    assert found["there"] == [True, False] * 3


def listed(**asked: Any) -> list[str]:
    from huggingface_hub import HfApi

    return [model.id for model in HfApi().list_models(**asked)]


def test_repositories_are_found_by_base_and_text(client: Client, commits: list[str]) -> None:
    for asked in (
        {"author": TEAM, "search": "to-be-read"},
        {"filter": ["peft", f"base_model:{TOY}"], "search": "to-be-read"},
        {"filter": f"base_model:adapter:{TOY}", "search": "to-be-read"},
    ):
        assert client.do(listed, **asked) == [str(NAME)], asked
    assert client.do(listed, author=TEAM, filter="base_model:nobody/else") == []


def test_a_file_is_fetched_by_alias_version_and_commit(client: Client, commits: list[str], tmp_path: Path) -> None:
    for revision, commit in {"production": commits[0], "v2": commits[1], commits[0]: commits[0]}.items():
        path = Path(client.do(one_file, repo=str(NAME), path=WEIGHTS, revision=revision, cache=tmp_path))
        assert (path.parent.name, path.name) == (commit, WEIGHTS)


@pytest.mark.parametrize(("shown", "number"), [("production", 0), ("v2", 1)])
def test_a_view_shows_one_reference_as_its_main(
    client: Client, commits: list[str], tmp_path: Path, shown: str, number: int
) -> None:
    path = Path(client.do(one_file, repo=f"{NAME}.at.{shown}", path=WEIGHTS, revision="main", cache=tmp_path))
    assert path.parent.name == commits[number]


def facts(repo: str, path: str, revision: str) -> list[object]:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    found = get_hf_file_metadata(hf_hub_url(repo, path, revision=revision))
    return [found.commit_hash, found.etag, found.size]


def test_a_files_facts_are_asked_for_without_the_file(client: Client, hub: Server, commits: list[str]) -> None:
    weights = next(file for file in hub.registry.commit_at(Reference.parse(f"{NAME}@v1")).files if file.path == WEIGHTS)
    found = client.do(facts, repo=str(NAME), path=WEIGHTS, revision="production")
    assert found == [commits[0], weights.sha256, weights.size]


def browsed(repo: str, revision: str) -> list[object]:
    from huggingface_hub import HfFileSystem

    files = HfFileSystem()
    names = files.ls(f"{repo}@{revision}", detail=False)
    with files.open(f"{repo}@{revision}/adapter_config.json") as file:
        return [sorted(name.rpartition("/")[2] for name in names), file.read(1).decode()]


def test_a_repository_is_a_file_system(client: Client, commits: list[str]) -> None:
    assert client.do(browsed, repo=str(NAME), revision="v1") == [["README.md", "adapter_config.json", WEIGHTS], "{"]
