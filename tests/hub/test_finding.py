"""What clients read of a repository: its facts, files, revisions, history, and lists of repositories."""

from pathlib import Path

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Publication, Submission
from tests.factories import TOY, write_adapter
from tests.http.conftest import Server
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


def test_a_repository_is_read_as_it_is(client: Client, hub: Server, commits: list[str]) -> None:
    found = client.do("hub.read", repo=str(NAME))
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
    assert found["commits"] == [[commits[2], "a note"], [commits[1], "number 2"], [commits[0], "number 1"]]


def test_clients_learn_what_there_is_and_what_is_not(client: Client, commits: list[str]) -> None:
    for known, unknown in (
        ({}, {"repo": "team/nothing"}),
        ({"revision": "production"}, {"revision": "nothing"}),
        ({"path": "README.md"}, {"path": "nothing"}),
    ):
        assert client.do("hub.there_is", **{"repo": str(NAME)} | known) is True
        assert client.do("hub.there_is", **{"repo": str(NAME)} | unknown) is False
    client.do("hub.may_read", repo=str(NAME))


def test_repositories_are_found_by_base_and_text(client: Client, commits: list[str]) -> None:
    for asked in (
        {"author": TEAM, "search": "to-be-read"},
        {"filter": ["peft", f"base_model:{TOY}"], "search": "to-be-read"},
        {"filter": f"base_model:adapter:{TOY}", "search": "to-be-read"},
    ):
        assert client.do("hub.find", **asked) == [str(NAME)], asked
    assert client.do("hub.find", author=TEAM, filter="base_model:nobody/else") == []


def test_a_file_is_fetched_by_alias_version_and_commit(client: Client, commits: list[str], tmp_path: Path) -> None:
    for revision, commit in {"production": commits[0], "v2": commits[1], commits[0]: commits[0]}.items():
        path = Path(client.do("hub.one_file", repo=str(NAME), path=WEIGHTS, revision=revision, cache=tmp_path))
        assert (path.parent.name, path.name) == (commit, WEIGHTS)


@pytest.mark.parametrize(("shown", "number"), [("production", 0), ("v2", 1)])
def test_a_view_shows_one_reference_as_its_main(
    client: Client, commits: list[str], tmp_path: Path, shown: str, number: int
) -> None:
    path = Path(client.do("hub.one_file", repo=f"{NAME}.at.{shown}", path=WEIGHTS, revision="main", cache=tmp_path))
    assert path.parent.name == commits[number]


def test_a_files_facts_are_asked_for_without_the_file(client: Client, hub: Server, commits: list[str]) -> None:
    weights = next(file for file in hub.registry.commit_at(Reference.parse(f"{NAME}@v1")).files if file.path == WEIGHTS)
    found = client.do("hub.file_facts", repo=str(NAME), path=WEIGHTS, revision="production")
    assert found == [commits[0], weights.sha256, weights.size]


def test_a_repository_is_a_file_system(client: Client, commits: list[str]) -> None:
    assert client.do("hub.browse", repo=str(NAME), revision="v1") == [
        ["README.md", "adapter_config.json", WEIGHTS],
        "{",
    ]
