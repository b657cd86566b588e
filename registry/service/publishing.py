"""The one gate: everything that becomes a version, pushed or composed, ends in `Registry.publish`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
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
    VersionBase,
)
from registry.domain.reference import AdapterName, check_alias
from registry.domain.spec import AdapterSpec
from registry.service.aliases import Mover, promote
from registry.service.bases import BaseClaim, settle_base
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
    """What came of it. `created` is False when the content was there already; `version` is None without an adapter."""

    commit: str
    version: Version | None
    created: bool
    moves: tuple[AliasMove, ...] = ()


class Publishing(UseCases):
    """Turn uploaded files into a commit, and a version where the content is new."""

    def publish(self, submission: Submission) -> Publication:
        """Check a file tree as a whole and add it; nothing is kept of a refused one.

        The same content gives the version that exists, with one more line of provenance.
        Raises InvalidFile, InvalidAdapter, BaseMismatch, BlobNotFound, StaleCommit, Gone, and what `promote` raises.
        """
        check_paths([file.path for file in submission.files])
        for alias in submission.aliases:
            check_alias(alias)
        self._check_blobs(submission)
        draft = self._draft(submission)
        with self.database.writing() as catalog:
            publication = self._publish(catalog, submission, draft)
            catalog.events.append("commit.added", submission.name, _event(publication))
        return publication

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

    def _draft(self, submission: Submission) -> tuple[AdapterSpec, VersionBase] | None:
        spec = inspect_files(self.blobs, submission.files)
        if spec is None:
            return None
        with self.database.reading() as catalog:
            return settle_base(catalog, spec, submission.base)

    def _publish(
        self, catalog: Catalog, submission: Submission, draft: tuple[AdapterSpec, VersionBase] | None
    ) -> Publication:
        at = self.clock()
        name = catalog.adapters.ensure(submission.name, actor=self.actor, at=at)
        head = catalog.commits.head(name)
        if submission.expected_head is not None and (head.id if head else "") != submission.expected_head:
            raise StaleCommit(str(name), submission.expected_head, head.id if head else "no commit")
        commit = self._commit(submission, name, head=head)
        version, created = self._version(catalog, submission, draft=draft, commit=commit) if draft else (None, False)
        commit = replace(commit, version=version.number if version else None)
        if head is None or commit.id != head.id:
            catalog.commits.add(commit)
        if version is None:
            return Publication(commit.id, None, False)
        origin = submission.origin
        catalog.lineage.record(
            name,
            version.number,
            Provenance(
                commit.id,
                self.actor,
                at,
                origin.recipe_digest if origin else None,
                dict(origin.recipe) if origin else None,
                origin.parents if origin else (),
            ),
        )
        mover = Mover(self.actor, at, submission.message or None)
        moves = tuple(
            promote(catalog, version, alias, mover=mover, across_bases=submission.across_bases)
            for alias in submission.aliases
        )
        return Publication(commit.id, version, created, moves)

    def _commit(self, submission: Submission, name: AdapterName, *, head: Commit | None) -> Commit:
        """The new commit, or the head itself when the tree is the same."""
        files = tuple(sorted(submission.files, key=lambda file: file.path))
        if head and head.files == files:
            return head
        at = self.clock()
        parent = head.id if head else None
        identity = commit_id(
            adapter=str(name),
            parent=parent,
            author=self.actor,
            created_at=at.isoformat(),
            message=submission.message,
            files={file.path: file.sha256 for file in files},
        )
        return Commit(identity, name, parent, self.actor, submission.message, at, None, files)

    def _version(
        self,
        catalog: Catalog,
        submission: Submission,
        *,
        draft: tuple[AdapterSpec, VersionBase],
        commit: Commit,
    ) -> tuple[Version, bool]:
        spec, base = draft
        digest = content_digest({file.path: file.sha256 for file in commit.files})
        if existing := catalog.versions.by_digest(commit.adapter, digest):
            return self._known(catalog, existing, base), False
        version = Version(
            adapter=commit.adapter,
            number=0,  # the catalog takes the next one
            commit=commit.id,
            digest=digest,
            status=Status.ACTIVE,
            status_reason=None,
            summary=spec.summary,
            base=base,
            size=sum(file.size for file in commit.files),
            author=self.actor,
            message=submission.message,
            metadata=dict(submission.metadata),
            created_at=commit.created_at,
            files=commit.files,
        )
        return catalog.versions.add(version, spec.modules), True

    def _known(self, catalog: Catalog, existing: Version, base: VersionBase) -> Version:
        """A version whose content came again: refused if withdrawn; its base's evidence becomes the stronger one."""
        if existing.status in (Status.REVOKED, Status.PURGED):
            raise Gone(existing.reference, existing.status.value)
        known = existing.base
        if known.fingerprint and base.fingerprint and known.fingerprint != base.fingerprint:
            raise BaseConflict(
                existing.reference,
                known.name or known.fingerprint[:12],
                "this push",
                base.name or base.fingerprint[:12],
            )
        if _STRENGTH[base.evidence] <= _STRENGTH[known.evidence]:
            return existing
        catalog.versions.set_base(existing.adapter, existing.number, base, actor=self.actor, at=self.clock())
        return replace(existing, base=base)


def _event(publication: Publication) -> dict[str, Any]:
    version = publication.version
    return {
        "commit": publication.commit,
        "version": version.number if version else None,
        "digest": version.digest if version else None,
        "created": publication.created,
    }
