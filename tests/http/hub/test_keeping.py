"""Repositories begun, deleted and set; branches and tags made and deleted, with the Hub's own client."""

from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from registry.domain.gates import Requirement
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from tests.factories import write_adapter
from tests.http.hub.writing import Desk, api_of, refused

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def pushed(desk: Desk, tmp_path: Path) -> Desk:
    """A repository with two versions; main has the second."""
    for seed in range(2):
        desk.api.upload_folder(repo_id=desk.repo, folder_path=write_adapter(tmp_path / str(seed), seed=seed))
    return desk


def versions(desk: Desk) -> dict[str, int]:
    return desk.registry.adapter(AdapterName.parse(desk.repo)).aliases


# -- repositories -----------------------------------------------------------------------------------------------------


def test_a_repository_is_begun_once_and_deleted(desk: Desk) -> None:
    api, repo = desk.api, f"{desk.repo}-new"
    made = api.create_repo(repo, private=True)
    assert (made, made.repo_id) == (f"{desk.server.url}/{repo}", repo)
    with refused(409, "exists already"):
        api.create_repo(repo)
    for again in (repo, repo.upper().replace("OURS", "ours")):
        assert api.create_repo(again, exist_ok=True, private=False).repo_id == repo
    assert api_of(desk.rita).create_repo(repo, exist_ok=True).repo_id == repo
    with refused(403, "rita may not write"):
        api_of(desk.rita).create_repo(f"{repo}er")
    with refused(403, "may not admin"):
        api.delete_repo(repo)
    owner = HfApi(endpoint=desk.server.url, token=desk.server.client("olga", "ours", Role.OWNER).token)
    owner.delete_repo(repo)
    owner.delete_repo(repo, missing_ok=True)
    with pytest.raises(RepositoryNotFoundError):
        owner.delete_repo(repo)
    assert api.create_repo(repo).repo_id == repo


def test_without_a_team_it_is_ones_own_or_the_only_one(desk: Desk) -> None:
    assert desk.api.create_repo("alone").repo_id == "ours/alone"
    lou = desk.server.client("lou", "ours", Role.WRITER)
    desk.registry.set_role("theirs", "lou", Role.WRITER)
    with refused(400, "team/name, for instance ours, theirs"):
        api_of(lou).create_repo("alone")
    desk.registry.create_team("Lou")
    desk.registry.set_role("Lou", "lou", Role.OWNER)
    assert api_of(lou).create_repo("alone").repo_id == "Lou/alone"
    with refused(400, "say whose it is"):
        api_of(desk.server.client("guest")).create_repo("alone")


def test_what_another_team_has_and_what_is_nobodys_are_the_same(desk: Desk) -> None:
    for call in (api_of(desk.eve).create_repo, api_of(desk.eve).delete_repo):
        with pytest.raises(RepositoryNotFoundError):
            call(desk.repo)
        with pytest.raises(RepositoryNotFoundError):
            call("nobody/x")


def test_what_can_not_be_done_for_one_repository_is_refused_by_name(desk: Desk) -> None:
    api, repo = desk.api, f"{desk.repo}-x"
    with refused(400, "ours is a private team.* can't be public"):
        api.create_repo(repo, visibility="public")
    with refused(501, "datasets are not offered"):
        api.create_repo(repo, repo_type="dataset")
    for name in ("a.at.production", "x" * 80):
        with refused(400):
            api.create_repo(f"ours/{name}")
    for more in ({"sdk": "static"}, {"resourceGroupId": "1"}):
        answer = desk.post("/api/repos/create", json={"name": "y", "organization": "ours", **more})
        assert (answer.status, next(iter(more)) in answer.json()["error"]) == (400, True)
    api.update_repo_settings(desk.repo, private=True, gated=False)
    with refused(400, "can't be public"):
        api.update_repo_settings(desk.repo, private=False)
    with refused(501, "roles"):
        api.update_repo_settings(desk.repo, gated="manual")
    with refused(403, "rita may not write"):
        api_of(desk.rita).update_repo_settings(desk.repo, private=True)
    with refused(501, "push to the new name"):
        api.move_repo(desk.repo, repo)


def test_a_repository_with_branches_is_not_deleted(pushed: Desk) -> None:
    pushed.api.create_branch(pushed.repo, branch="production")
    owner = HfApi(endpoint=pushed.server.url, token=pushed.server.client("olga", "ours", Role.OWNER).token)
    with refused(409, "the aliases production"):
        owner.delete_repo(pushed.repo)
    with refused(403, "only shows"):
        owner.delete_repo(f"{pushed.repo}.at.production")
    owner.delete_branch(pushed.repo, branch="production")
    owner.delete_repo(pushed.repo)


# -- branches ---------------------------------------------------------------------------------------------------------


def test_a_branch_is_an_alias(pushed: Desk) -> None:
    api, repo, first = pushed.api, pushed.repo, pushed.registry.peek(Reference.parse(f"{pushed.repo}@v1")).commit
    api.create_branch(repo, branch="newest")
    api.create_branch(repo, branch="first", revision=first)
    api.create_branch(repo, branch="copy", revision="first")
    assert versions(pushed) == {"newest": 2, "first": 1, "copy": 1}
    for taken in ("first", "main"):
        with refused(409, "exists already"):
            api.create_branch(repo, branch=taken)
        api.create_branch(repo, branch=taken, exist_ok=True)
    api.delete_branch(repo, branch="copy")
    assert versions(pushed) == {"newest": 2, "first": 1}
    assert [move.reason for move in pushed.registry.history(AdapterName.parse(repo), "copy")] == [
        "by a client of the Hugging Face Hub's protocol"
    ] * 2


def test_a_branch_that_can_not_be_is_refused_in_words(pushed: Desk) -> None:
    api, repo = pushed.api, pushed.repo
    for name in ("feature/x", "v3", "refs/pr/1"):
        with refused(400, "would be an alias"):
            api.create_branch(repo, branch=name)
    for missing in ("nowhere", "v9", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.create_branch(repo, branch="x", revision=missing)
    for missing in ("nowhere", "feature/x"):
        with pytest.raises(RevisionNotFoundError):
            api.delete_branch(repo, branch=missing)
    with refused(403, "can't be deleted"):
        api.delete_branch(repo, branch="main")
    pushed.registry.set_gate(AdapterName.parse(repo), "production", [Requirement("f1", ">=", 0.9)])
    with refused(400, "may not become production"):
        api.create_branch(repo, branch="production")
    walt = api_of(pushed.server.client("walt", "ours", Role.WRITER))
    with refused(403, "may not promote"):
        walt.create_branch(repo, branch="x")
    with pytest.raises(RepositoryNotFoundError):
        api_of(pushed.eve).create_branch(repo, branch="x")
    assert versions(pushed) == {}


def test_a_branch_begins_at_an_adapter(desk: Desk) -> None:
    with pytest.raises(RevisionNotFoundError):
        desk.api.create_branch(desk.repo, branch="x")
    desk.api.upload_file(repo_id=desk.repo, path_or_fileobj=b"x", path_in_repo="README.md")
    with pytest.raises(RevisionNotFoundError, match="begins at a version"):
        desk.api.create_branch(desk.repo, branch="x")


# -- tags -------------------------------------------------------------------------------------------------------------


def test_a_tag_is_a_note_on_a_commit(pushed: Desk) -> None:
    api, repo, name = pushed.api, pushed.repo, AdapterName.parse(pushed.repo)
    first = pushed.registry.peek(Reference.parse(f"{repo}@v1")).commit
    api.create_tag(repo, tag="1.0", revision="v1", tag_message="as shipped")
    api.create_tag(repo, tag="newest")
    assert {tag.name: tag.commit for tag in pushed.registry.tags(name)} == {"1.0": first, "newest": pushed.main.id}
    assert pushed.registry.tag(name, "1.0").message == "as shipped"
    assert {"v1": first, "1.0": first}.items() <= {
        t.name: t.target_commit for t in api.list_repo_refs(repo).tags
    }.items()
    assert api.repo_info(repo, revision="1.0").sha == first
    with refused(409, "exists already"):
        api.create_tag(repo, tag="NEWEST")
    api.create_tag(repo, tag="newest", exist_ok=True)
    with refused(403, "not pushed to"):
        api.upload_file(repo_id=repo, path_or_fileobj=b"x", path_in_repo="x.txt", revision="newest")
    api.delete_tag(repo, tag="newest")
    with refused(404, "has no tag"):
        api.delete_tag(repo, tag="newest")


def test_tags_of_versions_are_the_registrys(pushed: Desk) -> None:
    api, repo = pushed.api, pushed.repo
    with refused(409, "it is a version"):
        api.create_tag(repo, tag="v1")
    with refused(403, "is for a version"):
        api.create_tag(repo, tag="v3")
    for tag in ("v1", "v3"):
        with refused(403, "is a version"):
            api.delete_tag(repo, tag=tag)
    for tag in ("latest", "a/b"):
        with refused(400):
            api.create_tag(repo, tag=tag)
    with pytest.raises(RevisionNotFoundError):
        api.create_tag(repo, tag="x", revision="nowhere")
    with refused(403, "rita may not write"):
        api_of(pushed.rita).create_tag(repo, tag="x")
    with pytest.raises(RepositoryNotFoundError):
        api_of(pushed.eve).create_tag(repo, tag="x")
