"""Commits by reference: what main, a version, an alias and a commit show, and to whom; and back from there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    AdaptersError,
    AliasNotFound,
    Gone,
    NotActive,
    VersionNotFound,
    WrongUsage,
)
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.service.jobs import member

OURS = AdapterName("ours", "a")
Publish = Callable[..., str]


def ref(selector: str = "") -> Reference:
    return Reference.parse(f"{OURS}{selector}")


@pytest.fixture
def publish(registry: Registry, tmp_path: Path) -> Publish:
    """Publish the adapter of a seed with that README, or without a seed the README alone; returns the commit."""

    def publish(seed: int | None, readme: str, name: AdapterName = OURS) -> str:
        folder = tmp_path / f"{name.team}-{seed}-{readme}"
        folder.mkdir(exist_ok=True)
        if seed is not None:
            write_adapter(folder, seed=seed)
        (folder / "README.md").write_text(readme)
        return registry.push_folder(folder, Submission(name, ())).commit

    return publish


def test_each_kind_of_reference_has_its_commit(registry: Registry, publish: Publish) -> None:
    commits = [publish(0, "one"), publish(0, "better words"), publish(1, "two"), publish(None, "gone")]
    registry.promote(ref("@v1"), "production")
    digest = registry.find_version(ref("@v2")).digest
    expected = {"": 3, "@v1": 0, "@production": 0, "@v2": 2, f"@sha256:{digest}": 2}
    expected |= {f"@{commit}": position for position, commit in enumerate(commits)}
    for selector, position in expected.items():
        assert registry.commit_at(ref(selector)).id == commits[position]
    shown = registry.snapshot(ref(f"@{commits[1]}"))
    assert (shown.version and shown.version.number, shown.commit.message, shown.public) == (1, "", False)
    assert registry.snapshot(ref()).version is None
    assert [file.path for file in registry.commit_at(ref()).files] == ["README.md"]


def test_an_empty_commit_is_a_commit(registry: Registry) -> None:
    made = registry.publish(Submission(OURS, ()))
    assert registry.commit_at(ref()).id == made.commit
    assert registry.commit_at(ref()).files == ()


def test_an_adapter_without_a_commit_shows_an_empty_one(registry: Registry) -> None:
    with registry.database.writing() as catalog:
        catalog.adapters.ensure(OURS, actor="ann", at=registry.clock())
        catalog.events.append("adapter.created", OURS, {}, actor="ann")
    empty = registry.commit_at(ref())
    assert (empty.files, empty.version, empty.parent) == ((), None, None)
    assert registry.commit_at(ref(f"@{empty.id}")) == empty
    assert registry.commits_from(ref()).items == ()
    assert registry.references(OURS).main == empty.id
    (listed,) = registry.repositories(commits=True).items
    assert (listed.commit, listed.version) == (empty, None)
    registry.publish(Submission(OURS, ()))
    refused(registry, VersionNotFound, f"@{empty.id}")


def test_what_is_withdrawn_is_shown_as_its_status_allows(registry: Registry, publish: Publish) -> None:
    first, second = publish(0, "one"), publish(1, "two")
    registry.promote(ref("@v2"), "production")
    registry.set_status(ref("@v2"), Status.YANKED, reason="worse", force=True)
    assert registry.commit_at(ref()).id == first
    assert registry.commit_at(ref("@v2")).id == registry.commit_at(ref(f"@{second}")).id == second
    refused(registry, NotActive, "@production")
    registry.set_status(ref("@v2"), Status.REVOKED, reason="leaked", force=True)
    refused(registry, Gone, "@v2", f"@{second}", "@production")
    assert registry.commit_at(ref()).id == first
    registry.set_status(ref("@v1"), Status.YANKED, reason="worse", force=True)
    refused(registry, Gone, "")  # as the newest one is
    late = publish(None, "words")
    assert registry.commit_at(ref()).id == late


def refused(registry: Registry, error: type[AdaptersError], *selectors: str) -> None:
    for selector in selectors:
        with pytest.raises(error):
            registry.commit_at(ref(selector))


def test_a_deleted_adapter_shows_nothing_of_before_even_when_it_is_there_again(
    registry: Registry, publish: Publish
) -> None:
    before = publish(None, "secret plans")
    publish(0, "one")
    registry.delete_adapter(OURS, reason="wrong corpus")
    refused(registry, Gone, "", "@v1", f"@{before}", "@production")
    registry.create_adapter(OURS)
    refused(registry, VersionNotFound, f"@{before}")
    after = publish(None, "new")
    assert registry.commit_at(ref()).id == after
    refused(registry, VersionNotFound, f"@{before}")
    assert [commit.id for commit in registry.commits_from(ref()).items] == [after]
    refused(registry, Gone, "@v1")


def test_what_is_not_there_and_what_is_not_ones_own_are_the_same(registry: Registry, publish: Publish) -> None:
    commit, other = publish(0, "one"), publish(1, "one", AdapterName("theirs", "a"))
    refused(registry, VersionNotFound, "@v2", f"@{'0' * 40}", f"@{other}")
    refused(registry, AliasNotFound, "@production")
    with pytest.raises(AdapterNotFound):
        registry.commit_at(Reference.parse("ours/b"))
    eve = member(registry, "eve", theirs=Role.OWNER)
    for selector in ("", "@v1", f"@{commit}", "@production"):
        refused(eve, AdapterNotFound, selector)
        with pytest.raises(AdapterNotFound):
            eve.commits_from(ref(selector))
    with pytest.raises(AdapterNotFound):
        eve.last_changes(registry.commit_at(ref()), ["README.md"])


def test_history_goes_back_from_a_commit_a_page_at_a_time(registry: Registry, publish: Publish) -> None:
    commits = [publish(seed, "words") for seed in range(5)]
    found, cursor = [], None
    for size in (2, 2, 1):
        page = registry.commits_from(ref(), cursor=cursor, limit=2)
        assert len(page.items) == size
        found += page.items
        cursor = page.cursor
    assert cursor is None
    assert [commit.id for commit in found] == commits[::-1]
    assert all(commit.files == () for commit in found)
    assert [commit.id for commit in registry.commits_from(ref("@v2")).items] == commits[1::-1]
    with pytest.raises(WrongUsage):
        registry.commits_from(ref(), cursor="x")


def test_a_file_was_last_changed_where_its_content_came(registry: Registry, publish: Publish) -> None:
    weights = "adapter_model.safetensors"
    publish(0, "one")
    commits = [publish(None, "one"), publish(0, "one"), publish(0, "two"), publish(0, "one")]
    shown = registry.commit_at(ref())
    changed = registry.last_changes(shown, ["README.md", weights])
    assert {path: commit.id for path, commit in changed.items()} == {"README.md": commits[3], weights: commits[1]}
