"""Commits as clients of a repository see them: what a revision shows, and what came before it.

A commit need not hold an adapter: a README alone, a base model and nothing at all are commits too. One that does is
shown as its version's status allows. An adapter that is begun and has no commit yet shows an empty one. What was there
before an adapter was deleted stays out, also when somebody begins it anew under the same name.
"""

from collections.abc import Collection
from dataclasses import dataclass

from registry.domain.digest import commit_id
from registry.domain.errors import AdapterNotFound, AliasNotFound, Gone, VersionNotFound
from registry.domain.records import Adapter, Commit, Page, Version
from registry.domain.reference import AdapterName, Reference, Selector
from registry.domain.statuses import check_found
from registry.service.core import UseCases
from registry.service.lookup import check_whole, find
from registry.sql.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a revision shows, as of one moment: its commit, and the version whose content that has, if any."""

    adapter: Adapter
    commit: Commit
    version: Version | None
    public: bool


class History(UseCases):
    """Commits by reference, and back from one."""

    def commit_at(self, reference: Reference) -> Commit:
        """The commit behind a reference, with its files; see `snapshot`."""
        return self.snapshot(reference).commit

    def snapshot(self, reference: Reference) -> Snapshot:
        """What a reference shows: main its newest commit, a version or an alias that version's first one.

        What is no alias may be a tag, which shows its commit.

        While the version of main's newest commit is withdrawn, main is the newest commit whose version is active.
        Raises AdapterNotFound, AliasNotFound, VersionNotFound, NotActive, Gone, Damaged.
        """
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter)
            return take(catalog, reference)

    def commits_from(self, reference: Reference, *, cursor: str | None = None, limit: int = 100) -> Page[Commit]:
        """The commits that led to a reference's, newest first and without their files, a page at a time.

        Raises what `snapshot` raises; WrongUsage for a foreign cursor.
        """
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter)
            commit = take(catalog, reference).commit
            return catalog.commits.page(commit, cursor=cursor, limit=limit)

    def last_changes(self, commit: Commit, paths: Collection[str]) -> dict[str, Commit]:
        """For paths of a commit, the commit (without files) that gave them the content which they have there."""
        with self.database.reading() as catalog:
            self.require(catalog, commit.adapter)
            return {path: catalog.commits.last_change(commit, path) for path in paths}


def take(catalog: Catalog, reference: Reference) -> Snapshot:
    """The snapshot of a reference; see `History.snapshot`."""
    adapter = present(catalog, reference.adapter)
    version, commit = _shown(catalog, reference, adapter)
    return Snapshot(adapter, commit, version, catalog.teams.is_public(adapter.name.team))


def present(catalog: Catalog, name: AdapterName) -> Adapter:
    """An adapter that is there. Raises AdapterNotFound; Gone for one that was deleted."""
    adapter = catalog.adapters.find(name)
    if adapter is None:
        raise AdapterNotFound(str(name))
    if adapter.deleted_at is not None:
        raise Gone(str(adapter.name), "deleted")
    return adapter


def _shown(catalog: Catalog, reference: Reference, adapter: Adapter) -> tuple[Version | None, Commit]:
    if reference.selector is Selector.MAIN:
        return _main(catalog, reference, adapter)
    if reference.selector is Selector.COMMIT:
        return _pinned(catalog, reference, adapter)
    try:
        version = find(catalog, reference).version
    except AliasNotFound:
        tag = catalog.tags.find(adapter.name, reference.value)
        if tag is None:
            raise
        return _pinned(catalog, Reference(adapter.name, Selector.COMMIT, tag.commit), adapter)
    return version, _of(catalog, version)


def _main(catalog: Catalog, reference: Reference, adapter: Adapter) -> tuple[Version | None, Commit]:
    head = catalog.commits.head(adapter.name)
    if head is None:
        return None, beginning(adapter)
    if head.version is None:
        return None, head
    newest = catalog.versions.find(reference)
    if newest is None:  # none is active
        withdrawn = _version(catalog, head)
        assert withdrawn is not None
        check_found(reference, withdrawn.status)
        raise AssertionError(f"{withdrawn.reference} is active and isn't found")
    check_whole(newest)
    return newest, head if newest.commit == head.id else _of(catalog, newest)


def beginning(adapter: Adapter) -> Commit:
    """What an adapter shows before its first commit. It is kept nowhere, and always the same."""
    name, at = adapter.name, adapter.created_at
    identity = commit_id(adapter=str(name), parent=None, author="", created_at=at.isoformat(), message="", files={})
    return Commit(identity, name, None, "", "", at, None, ())


def _pinned(catalog: Catalog, reference: Reference, adapter: Adapter) -> tuple[Version | None, Commit]:
    first = beginning(adapter)
    if adapter.head is None and reference.value == first.id:
        return None, first
    commit = catalog.commits.find(reference.adapter, reference.value)
    if commit is None or (commit.version is None and not is_of_present_line(catalog, commit, adapter)):
        raise VersionNotFound(str(reference.adapter), f"commit {reference.value}")
    version = _version(catalog, commit)
    if version is not None:
        check_found(reference, version.status)
        check_whole(version)
    return version, commit


def is_of_present_line(catalog: Catalog, commit: Commit, adapter: Adapter) -> bool:
    """Whether a commit is of the line that main is at the end of, and not of one that was deleted."""
    return adapter.head is not None and catalog.commits.is_of_present_line(commit)


def _of(catalog: Catalog, version: Version) -> Commit:
    commit = catalog.commits.find(version.adapter, version.commit)
    assert commit is not None  # a foreign key
    return commit


def _version(catalog: Catalog, commit: Commit) -> Version | None:
    if commit.version is None:
        return None
    return catalog.versions.find(Reference(commit.adapter, Selector.VERSION, str(commit.version)))
