"""Adapters as repositories: a list tells what main shows, and no list of references has what was withdrawn."""

from pathlib import Path

import pytest

from registry.domain.errors import AdapterNotFound, Gone, NotAllowed
from registry.domain.records import SearchQuery, Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role, Scope
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.service.jobs import member, push

OURS = AdapterName("ours", "a")
QUERY = SearchQuery(shown=True)


@pytest.fixture
def three(registry: Registry, tmp_path: Path) -> Registry:
    """ours/a has three versions, ours/b one of rank 8."""
    for seed in range(3):
        push(registry, tmp_path / str(seed), "ours/a", seed)
    push(registry, tmp_path / "b", "ours/b", 9, rank=8)
    return registry


def shown(registry: Registry, query: SearchQuery = QUERY) -> dict[str, int]:
    found = registry.search_repositories(query, commits=True).items
    assert all(line.version and line.commit and line.commit.version == line.version.number for line in found)
    return {str(line.adapter.name): line.version.number for line in found if line.version}


def withdraw(registry: Registry, number: int, status: Status = Status.YANKED) -> None:
    registry.set_status(Reference.parse(f"ours/a@v{number}"), status, reason="worse", force=True)


def test_a_search_finds_what_main_shows_and_each_adapter_once(three: Registry, tmp_path: Path) -> None:
    assert shown(three) == {"ours/b": 1, "ours/a": 3}
    withdraw(three, 3)
    three.push_folder(write_adapter(tmp_path / "again", seed=0), Submission(OURS, (), message="v1 is main's again"))
    assert shown(three) == {"ours/b": 1, "ours/a": 1}
    assert shown(three, SearchQuery(shown=True, rank_max=7, format="peft", peft_type="LORA")) == {"ours/a": 1}
    assert shown(three, SearchQuery(shown=True, peft_type="LOHA")) == {}
    listed = {str(line.adapter.name): line.version and line.version.number for line in three.repositories().items}
    assert listed == {"ours/a": 1, "ours/b": 1}
    for number in (1, 2):
        withdraw(three, number)
    assert shown(three) == {"ours/b": 1}
    assert [line.version for line in three.repositories(team="ours", limit=1, commits=True).items] == [None]


def test_references_are_those_that_lead_somewhere(three: Registry) -> None:
    commits = {number: three.commit_at(Reference.parse(f"ours/a@v{number}")).id for number in (1, 2, 3)}
    for number, alias in ((1, "production"), (2, "canary")):
        three.promote(Reference.parse(f"ours/a@v{number}"), alias)
    withdraw(three, 2)
    withdraw(three, 3, Status.REVOKED)
    found = three.references(OURS)
    assert (found.main, found.aliases) == (commits[1], {"production": commits[1]})
    assert list(found.versions.items()) == [(2, commits[2]), (1, commits[1])]


def test_access_is_refused_as_everywhere(three: Registry) -> None:
    bob = member(three, "bob", ours=Role.READER)
    bob.check_access(OURS)
    with pytest.raises(NotAllowed):
        bob.check_access(OURS, Scope.WRITE)
    eve = member(three, "eve")
    for name in (OURS, AdapterName("ours", "absent")):
        for refused in (eve.check_access, eve.references):
            with pytest.raises(AdapterNotFound):
                refused(name)
    assert eve.repositories().items == eve.search_repositories(QUERY).items == ()
    three.delete_adapter(OURS, reason="wrong corpus")
    with pytest.raises(Gone):
        three.references(OURS)
