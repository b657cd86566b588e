"""The one gate: everything that becomes a version, pushed or composed, ends in `Registry.publish`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from registry.domain.digest import commit_id, content_digest
from registry.domain.errors import (
    BaseConflict,
    BlobNotFound,
    DigestMismatch,
    Gone,
    StaleCommit,
)
from registry.domain.paths import check_paths
from registry.domain.records import (
    AliasMove,
    Commit,
    Evidence,
    FileEntry,
    Parent,
    Provenance,
    Status,
    Version,
)
from registry.domain.reference import AdapterName, check_alias
from registry.domain.rights import Scope
from registry.domain.texts import check_metadata, check_text
from registry.service.aliases import Mover, base_label, promote
from registry.service.bases import BaseClaim, Draft, settle_base
from registry.service.core import UseCases
from registry.service.inspection import inspect_files
from registry.sql.catalog import Catalog

_STRENGTH = {Evidence.EXACT: 2, Evidence.STRUCTURAL: 1, Evidence.DECLARED: 0}


@dataclass(frozen=True, slots=True)
class Origin:
    """The recipe that a composed version was made by, and the parents that it names."""

    recipe_digest: str
    recipe: Mapping[str, Any]
    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants to publish. `expected_head` is the commit that they last saw on main, if they care."""

    name: AdapterName
    files: tuple[FileEntry, ...]
    base: BaseClaim | None = None
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    origin: Origin | None = None
    expected_head: str | None = None
    across_bases: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What came of it.

    `created` is False when the content was there already; `version` is None without an adapter. `left_out` are the
    files of a pushed folder that don't belong to an adapter.
    """

    commit: str
    version: Version | None
    created: bool
    moves: tuple[AliasMove, ...] = ()
    left_out: tuple[str, ...] = ()


class Publishing(UseCases):
    """Turn uploaded files into a commit, and a version where the content is new."""

    def publish(self, submission: Submission) -> Publication:
        """Check a file tree as a whole and add it; nothing is kept of a refused one.

        The same content gives the version that exists, with one more line of provenance.
        Raises InvalidFile, InvalidAdapter, BaseMismatch, BlobNotFound, StaleCommit, Gone, and what `promote` raises.
        """
        check_paths([file.path for file in submission.files])
        check_text("the message", submission.message)
        check_metadata(submission.metadata)
        for alias in submission.aliases:
            check_alias(alias)
        self._check_rights(submission)
        self._check_blobs(submission)
        draft = self._draft(submission)
        with self.database.writing() as catalog:
            publication = self._publish(catalog, submission, draft)
            catalog.events.append("commit.added", submission.name, _event(publication), actor=self.actor)
        return publication

    def _check_rights(self, submission: Submission) -> None:
        with self.database.reading() as catalog:
            self.require_team(catalog, submission.name.team, Scope.WRITE)
            if submission.aliases:
                self.require(catalog, submission.name, Scope.PROMOTE)

    def _check_blobs(self, submission: Submission) -> None:
        """Every file must lie in the store, whole, brought by this team: a digest alone is no possession."""
        digests = {file.sha256 for file in submission.files}
        with self.database.reading() as catalog:
            possessed = catalog.blobs.possessed(submission.name.team, digests)
        for file in submission.files:
            stat = self.blobs.stat(file.sha256) if file.sha256 in possessed else None
            if stat is None:
                raise BlobNotFound(file.sha256)
            if stat.size != file.size:
                raise DigestMismatch(file.path, file.sha256, file.size, file.sha256, stat.size)

    def _draft(self, submission: Submission) -> Draft | None:
        spec = inspect_files(self.blobs, submission.files)
        if spec is None:
            return None
        with self.database.reading() as catalog:
            return settle_base(catalog, spec, submission.base)

    def _publish(self, catalog: Catalog, submission: Submission, draft: Draft | None) -> Publication:
        at = self.clock()
        name = catalog.adapters.ensure(submission.name, actor=self.actor, at=at)
        head = catalog.commits.head(name)
        _check_head(name, head, submission.expected_head)
        commit = self._commit(replace(submission, name=name), head, at)
        version, created = self._version(catalog, commit, submission, draft=draft) if draft else (None, False)
        commit = replace(commit, version=version.number if version else None)
        if head is None or commit.id != head.id:
            catalog.commits.add(commit)
        if version is None:
            return Publication(commit.id, None, False)
        catalog.lineage.record(name, version.number, self._provenance(commit.id, submission.origin, at))
        mover = Mover(self.actor, at, submission.message or None)
        moves = [
            promote(catalog, version, alias, mover=mover, across_bases=submission.across_bases)
            for alias in submission.aliases
        ]
        return Publication(commit.id, version, created, tuple(moves))

    def _provenance(self, commit: str, origin: Origin | None, at: datetime) -> Provenance:
        if origin is None:
            return Provenance(commit, self.actor, at, None, None)
        return Provenance(commit, self.actor, at, origin.recipe_digest, dict(origin.recipe), origin.parents)

    def _commit(self, submission: Submission, head: Commit | None, at: datetime) -> Commit:
        """The new commit, or the head itself when the tree is the same."""
        files = tuple(sorted(submission.files, key=lambda file: file.path))
        if head and head.files == files:
            return head
        parent = head.id if head else None
        identity = commit_id(
            adapter=str(submission.name),
            parent=parent,
            author=self.actor,
            created_at=at.isoformat(),
            message=submission.message,
            files={file.path: file.sha256 for file in files},
        )
        return Commit(identity, submission.name, parent, self.actor, submission.message, at, None, files)

    def _version(
        self, catalog: Catalog, commit: Commit, submission: Submission, *, draft: Draft
    ) -> tuple[Version, bool]:
        """The version of a commit's content, and whether it is new."""
        digest = content_digest({file.path: file.sha256 for file in commit.files})
        if existing := catalog.versions.by_digest(commit.adapter, digest):
            return self._known(catalog, existing, draft), False
        version = Version(
            adapter=commit.adapter,
            number=0,  # the catalog takes the next one
            commit=commit.id,
            digest=digest,
            status=Status.ACTIVE,
            status_reason=None,
            summary=draft.spec.summary,
            base=draft.base,
            size=sum(file.size for file in commit.files),
            author=self.actor,
            message=submission.message,
            metadata=dict(submission.metadata),
            created_at=commit.created_at,
            files=commit.files,
        )
        return catalog.versions.add(version, draft.spec.modules), True

    def _known(self, catalog: Catalog, existing: Version, draft: Draft) -> Version:
        """A version whose content came again: refused if withdrawn; its base's evidence becomes the stronger one."""
        if existing.status in (Status.REVOKED, Status.PURGED):
            raise Gone(existing.reference, existing.status.value)
        known, base = existing.base, draft.base
        if known.fingerprint and base.fingerprint and known.fingerprint != base.fingerprint:
            raise BaseConflict(existing.reference, base_label(known), "this push", base_label(base))
        if _STRENGTH[base.evidence] <= _STRENGTH[known.evidence]:
            return existing
        catalog.versions.set_base(
            existing.adapter, existing.number, base, modules=draft.spec.modules, actor=self.actor, at=self.clock()
        )
        return replace(existing, base=base)


def _check_head(name: AdapterName, head: Commit | None, expected: str | None) -> None:
    found = head.id if head else ""
    if expected is not None and found != expected:
        raise StaleCommit(str(name), expected, found or "no commit")


def _event(publication: Publication) -> dict[str, Any]:
    version = publication.version
    return {
        "commit": publication.commit,
        "version": version.number if version else None,
        "digest": version.digest if version else None,
        "created": publication.created,
    }
