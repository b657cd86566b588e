"""Repositories, tags and branches as clients make and remove them: adapters, notes on commits, and aliases."""

from pathlib import Path

import pytest

from registry.domain.errors import AdaptersError
from registry.domain.reference import Reference
from tests.factories import write_adapter
from tests.http.conftest import Server
from tests.hub.clients import Client, ClientError


def test_a_repository_is_created_once(client: Client, hub: Server, repo: str) -> None:
    assert client.do("hub.create", repo=repo, private=True) == f"{hub.url}/{repo}"
    assert client.do("hub.create", repo=repo, again=True) == f"{hub.url}/{repo}"
    with pytest.raises(ClientError, match="409"):
        client.do("hub.create", repo=repo)


def test_a_deleted_repository_is_gone_and_its_version_numbers_stay_taken(
    client: Client, hub: Server, repo: str, folder: Path
) -> None:
    client.do("hub.upload", repo=repo, folder=folder)
    client.do("hub.remove", repo=repo)
    assert not client.do("hub.there_is", repo=repo)
    client.do("hub.upload", repo=repo, folder=write_adapter(folder, seed=1))
    assert hub.registry.find_version(Reference.parse(repo)).number == 2


def test_a_repository_is_as_private_as_its_team(client: Client, repo: str, folder: Path) -> None:
    client.do("hub.upload", repo=repo, folder=folder)
    client.do("hub.set_private", repo=repo, private=True)
    with pytest.raises(ClientError, match="team"):
        client.do("hub.set_private", repo=repo, private=False)


def test_tags_are_notes_on_commits_and_versions_can_be_neither_made_nor_removed(
    client: Client, repo: str, folder: Path, tmp_path: Path
) -> None:
    commit = client.do("hub.upload", repo=repo, folder=folder)
    client.do("hub.tag", repo=repo, name="paper")
    assert client.do("hub.tags", repo=repo) == {"v1": commit, "paper": commit}
    client.do("hub.upload_text", repo=repo, path="README.md", text="later")
    assert Path(client.do("hub.snapshot", repo=repo, revision="paper", cache=tmp_path)).name == commit
    with pytest.raises(ClientError, match="409"):
        client.do("hub.tag", repo=repo, name="paper")
    for number in (1, 7):
        with pytest.raises(ClientError, match=f"v{number}"):
            client.do("hub.tag", repo=repo, name=f"v{number}")
    with pytest.raises(ClientError, match="v1"):
        client.do("hub.untag", repo=repo, name="v1")
    client.do("hub.untag", repo=repo, name="paper")
    assert client.do("hub.tags", repo=repo) == {"v1": commit}


def test_a_branch_is_an_alias_and_takes_no_commits(client: Client, hub: Server, repo: str, folder: Path) -> None:
    client.do("hub.upload", repo=repo, folder=folder)
    client.do("hub.branch", repo=repo, name="staging", revision="v1")
    assert hub.registry.find_version(Reference.parse(f"{repo}@staging")).number == 1
    with pytest.raises(ClientError, match="409"):
        client.do("hub.branch", repo=repo, name="staging")
    with pytest.raises(ClientError, match="alias"):
        client.do("hub.upload_to", repo=repo, folder=write_adapter(folder, seed=1), revision="staging")
    client.do("hub.unbranch", repo=repo, name="staging")
    with pytest.raises(AdaptersError):
        hub.registry.find_version(Reference.parse(f"{repo}@staging"))


def test_a_view_takes_no_commits(client: Client, hub: Server, repo: str, folder: Path) -> None:
    client.do("hub.upload", repo=repo, folder=folder)
    with pytest.raises(ClientError, match=r"\.at\.|read-only|view"):
        client.do("hub.upload_to", repo=f"{repo}.at.v1", folder=write_adapter(folder, seed=1), revision="main")
