"""Describing and deleting adapters: what stays, what is gone, and that no number is given twice."""

from pathlib import Path

import pytest

from registry.domain.errors import (
    AliasInUse,
    AliasNotFound,
    Gone,
    NameTaken,
    NotAllowed,
    QuotaExceeded,
    TeamNotFound,
    VersionNotFound,
    WrongUsage,
)
from registry.domain.quotas import Quota
from registry.domain.records import SearchQuery, Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Caller, Role
from registry.service import Registry
from registry.service.publishing import Submission
from registry.service.webhooks import reader_of
from tests.factories import write_adapter

# Nothing here is peculiar to a database.
pytestmark = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
OURS = AdapterName("ours", "a")


@pytest.fixture
def adapter(registry: Registry, tmp_path: Path) -> AdapterName:
    """An adapter with two versions and an alias."""
    for seed in range(2):
        registry.push_folder(write_adapter(tmp_path / str(seed), seed=seed), Submission(OURS, ()))
    registry.promote(Reference.parse("ours/a@v1"), "production")
    return OURS


def ref(text: str) -> Reference:
    return Reference.parse(f"ours/a{text}")


def test_what_is_not_given_stays(registry: Registry, adapter: AdapterName) -> None:
    registry.edit_adapter(adapter, description="film reviews", metadata={"owner": "ml", "task": "reviews"})
    registry.edit_adapter(adapter, metadata={"task": None, "language": "en"})
    found = registry.adapter(adapter)
    assert (found.description, found.metadata) == ("film reviews", {"owner": "ml", "language": "en"})
    newest = registry.newest_cursor()
    assert registry.edit_adapter(adapter, description="film reviews") == found
    assert registry.newest_cursor() == newest  # nothing changed, so nothing is told
    with pytest.raises(WrongUsage):
        registry.edit_adapter(adapter, description="\x1b[31m")


def test_a_deleted_adapter_leaves_a_tombstone(registry: Registry, adapter: AdapterName) -> None:
    with pytest.raises(AliasInUse, match="production"):
        registry.delete_adapter(adapter, reason="wrong corpus")
    digest = registry.find_version(ref("@v1")).digest
    registry.delete_adapter(adapter, reason="wrong corpus", force=True)
    for pin in ("@v1", "@v2", f"@sha256:{digest}"):
        with pytest.raises(Gone, match="purged"):
            registry.find_version(ref(pin))
    for reference, error in (("@production", AliasNotFound), ("", VersionNotFound)):
        with pytest.raises(error):
            registry.find_version(ref(reference))
    for attempt in (registry.adapter, registry.edit_adapter, lambda name: registry.delete_adapter(name, reason="x")):
        with pytest.raises(Gone, match="deleted"):
            attempt(adapter)
    assert registry.adapters().items == () and registry.search(SearchQuery()).items == ()
    assert registry.peek(ref("@v1")).status is Status.PURGED
    assert [move.kind for move in registry.history(adapter, "production")] == ["delete", "promote"]
    told = registry.on_behalf_of(reader_of("ours")).watch(0).events[-2:]
    assert [event.kind for event in told] == ["alias.moved", "adapter.deleted"]
    assert told[-1].payload == {"reason": "wrong corpus", "versions": 2, "aliases": ["production"]}


def test_numbers_go_on_after_a_deletion_and_withdrawn_content_stays_away(
    registry: Registry, adapter: AdapterName, tmp_path: Path
) -> None:
    registry.delete_adapter(adapter, reason="wrong corpus", force=True)
    with pytest.raises(Gone):
        registry.push_folder(tmp_path / "1", Submission(adapter, ()))
    assert registry.adapters().items == ()
    again = registry.push_folder(write_adapter(tmp_path / "2", seed=2), Submission(adapter, ())).version
    assert again is not None and again.number == 3
    assert registry.adapter(adapter).description == ""
    assert registry.find_version(ref("")).number == 3
    assert registry.promote(ref("@v3"), "production").seq == 3  # so do sequence numbers
    with pytest.raises(Gone):
        registry.find_version(ref("@v1"))


def test_writers_describe_and_admins_delete(registry: Registry, adapter: AdapterName) -> None:
    for role, edits in ((Role.EVALUATOR, False), (Role.WRITER, True), (Role.MAINTAINER, True)):
        other = registry.on_behalf_of(Caller("ann", roles={"ours": role}))
        if edits:
            assert other.edit_adapter(adapter, description=role.value).description == role.value
        else:
            with pytest.raises(NotAllowed):
                other.edit_adapter(adapter, description="mine")
        with pytest.raises(NotAllowed):
            other.delete_adapter(adapter, reason="mine", force=True)


def test_a_name_is_taken_once_before_its_first_commit(registry: Registry, adapter: AdapterName, tmp_path: Path) -> None:
    new = AdapterName("ours", "New")
    assert registry.create_adapter(new).head is None
    assert [found.name for found in registry.adapters().items] == [adapter, new]
    for taken in (new, AdapterName("ours", "new"), adapter):
        with pytest.raises(NameTaken):
            registry.create_adapter(taken)
    registry.set_quota("ours", Quota(adapters=2))
    registry.push_folder(tmp_path / "0", Submission(new, (), expected_head=""))
    with pytest.raises(QuotaExceeded):
        registry.create_adapter(AdapterName("ours", "third"))
    for role, error in ((Role.READER, NotAllowed), (None, TeamNotFound)):
        caller = Caller("ann", roles={"ours": role} if role else {})
        with pytest.raises(error):
            registry.on_behalf_of(caller).create_adapter(AdapterName("ours", "third"))
    registry.delete_adapter(new, reason="wrong corpus")
    again = registry.on_behalf_of(Caller("ann", roles={"ours": Role.WRITER})).create_adapter(new)
    assert (again.head, again.deleted_at, again.latest) == (None, None, 1)
