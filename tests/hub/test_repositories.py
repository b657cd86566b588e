"""Repositories, tags and branches as clients make and remove them: adapters, notes on commits, and aliases."""

from pathlib import Path

import pytest

from registry.domain.errors import AdaptersError
from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.hub.calls import upload
from tests.hub.clients import Client, ClientError


def create(repo: str, again: bool = False, private: bool | None = None) -> str:
    from huggingface_hub import HfApi

    return str(HfApi().create_repo(repo, exist_ok=again, private=private))


def test_a_repository_is_created_once(client: Client, hub: Server, repo: str) -> None:
    assert client.do(create, repo=repo, private=True) == f"{hub.url}/{repo}"
    assert client.do(create, repo=repo, again=True) == f"{hub.url}/{repo}"
    with pytest.raises(ClientError, match="409"):
        client.do(create, repo=repo)


def remove(repo: str) -> None:
    from huggingface_hub import HfApi

    HfApi().delete_repo(repo)


def exists(repo: str) -> bool:
    from huggingface_hub import HfApi

    return HfApi().repo_exists(repo)


def test_a_deleted_repository_is_gone_and_its_version_numbers_stay_taken(
    client: Client, hub: Server, repo: str, folder: Path
) -> None:
    client.do(upload, repo=repo, folder=folder)
    client.do(remove, repo=repo)
    assert not client.do(exists, repo=repo)
    client.do(upload, repo=repo, folder=write_adapter(folder, seed=1))
    assert [version.number for version in hub.registry.versions(AdapterName.parse(repo)).items][0] == 2


def hide(repo: str, private: bool) -> None:
    from huggingface_hub import HfApi

    HfApi().update_repo_settings(repo, private=private)


def test_a_repository_is_as_private_as_its_team(client: Client, repo: str, folder: Path) -> None:
    client.do(upload, repo=repo, folder=folder)
    client.do(hide, repo=repo, private=True)
    with pytest.raises(ClientError, match="team"):
        client.do(hide, repo=repo, private=False)


def tag(repo: str, name: str, revision: str | None = None) -> None:
    from huggingface_hub import HfApi

    HfApi().create_tag(repo, tag=name, revision=revision, tag_message="why")


def untag(repo: str, name: str) -> None:
    from huggingface_hub import HfApi

    HfApi().delete_tag(repo, tag=name)


def tags(repo: str) -> dict[str, str]:
    from huggingface_hub import HfApi

    return {tag.name: tag.target_commit for tag in HfApi().list_repo_refs(repo).tags}


def test_tags_are_notes_on_commits_and_versions_can_be_neither_made_nor_removed(
    client: Client, repo: str, folder: Path
) -> None:
    commit = client.do(upload, repo=repo, folder=folder)
    client.do(tag, repo=repo, name="paper")
    assert client.do(tags, repo=repo) == {"v1": commit, "paper": commit}
    with pytest.raises(ClientError, match="409"):
        client.do(tag, repo=repo, name="paper")
    for number in (1, 7):
        with pytest.raises(ClientError, match=f"v{number}"):
            client.do(tag, repo=repo, name=f"v{number}")
    with pytest.raises(ClientError, match="v1"):
        client.do(untag, repo=repo, name="v1")
    client.do(untag, repo=repo, name="paper")
    assert client.do(tags, repo=repo) == {"v1": commit}


def branch(repo: str, name: str, revision: str | None = None) -> None:
    from huggingface_hub import HfApi

    HfApi().create_branch(repo, branch=name, revision=revision)


def unbranch(repo: str, name: str) -> None:
    from huggingface_hub import HfApi

    HfApi().delete_branch(repo, branch=name)


def upload_to(repo: str, folder: str, revision: str) -> None:
    from huggingface_hub import HfApi

    HfApi().upload_folder(repo_id=repo, folder_path=folder, revision=revision)


def test_a_branch_is_an_alias_and_takes_no_commits(client: Client, hub: Server, repo: str, folder: Path) -> None:
    client.do(upload, repo=repo, folder=folder)
    client.do(branch, repo=repo, name="team/exp" if False else "staging", revision="v1")
    assert hub.registry.find_version(Reference.parse(f"{repo}@staging")).number == 1
    with pytest.raises(ClientError, match="409"):
        client.do(branch, repo=repo, name="staging")
    with pytest.raises(ClientError, match="403.*|.*alias"):
        client.do(upload_to, repo=repo, folder=write_adapter(folder, seed=1), revision="staging")
    client.do(unbranch, repo=repo, name="staging")
    with pytest.raises(AdaptersError):
        hub.registry.find_version(Reference.parse(f"{repo}@staging"))


def test_a_view_takes_no_commits(client: Client, hub: Server, repo: str, folder: Path) -> None:
    client.do(upload, repo=repo, folder=folder)
    with pytest.raises(ClientError, match=r"\.at\.|read-only|view"):
        client.do(upload_to, repo=f"{repo}.at.v1", folder=write_adapter(folder, seed=1), revision="main")
