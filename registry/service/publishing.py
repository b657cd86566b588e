"""The one gate: everything that becomes a version, pushed or composed, ends in `Registry.publish`."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from registry.domain.digest import commit_id, content_digest
from registry.domain.documents import move_document, version_document
from registry.domain.errors import (
    BaseConflict,
    BlobNotFound,
    DigestMismatch,
    Gone,
    OtherLine,
    StaleCommit,
    WrongUsage,
)
from registry.domain.jobs import Claim
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
from registry.service.base_gate import BaseGate, Checked, WholeBase
from registry.service.bases import BaseClaim, Draft, settle_base
from registry.service.core import Progress, silent
from registry.service.inspection import inspect_files
from registry.service.quotas import within_quota
from registry.sql.catalog import Catalog

_ADAPTER = "adapter_config.json"
_STRENGTH = {Evidence.EXACT: 2, Evidence.STRUCTURAL: 1, Evidence.DECLARED: 0}


@dataclass(frozen=True, slots=True)
class Origin:
    """The recipe that a composed version was made by, and the parents that it names."""

    recipe_digest: str
    recipe: Mapping[str, Any]
    parents: tuple[Parent, ...]


@dataclass(frozen=True, slots=True)
class Submission:
    """What somebody wants to publish. `expected_head` is the commit that they last saw on main, if they care.

    `claim` is that on a job whose result it is: the job ends in the transaction that publishes. `holds_base`: the files
    are a whole base model, which makes no version; `base` is then what it is called, if it must be that one.
    """

    name: AdapterName
    files: tuple[FileEntry, ...]
    base: BaseClaim | None = None
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    origin: Origin | None = None
    expected_head: str | None = None
    across_bases: bool = False
    claim: Claim | None = None
    holds_base: bool = False


@dataclass(frozen=True, slots=True)
class Publication:
    """What came of it.

    `created` is False when the content was there already; `version` is None without an adapter. `base` is the
    fingerprint of the base model that the commit holds instead. `left_out` are files of a pushed folder that belong to
    neither.
    """

    commit: str
    version: Version | None
    created: bool
    moves: tuple[AliasMove, ...] = ()
    left_out: tuple[str, ...] = ()
    base: str | None = None

    @property
    def document(self) -> dict[str, Any]:
        """Its JSON shape."""
        return {
            "created": self.created,
            "commit": self.commit,
            "version": version_document(self.version, files=True) if self.version else None,
            "moves": [move_document(move) for move in self.moves],
            "left_out": list(self.left_out),
            "base": self.base,
        }


class Publishing(BaseGate):
    """Turn uploaded files into a commit, and a version where the content is new."""

    def publish(self, submission: Submission, *, progress: Progress = silent) -> Publication:
        """Check a file tree as a whole and add it; nothing is kept of a refused one.

        The same content gives the version that exists, with one more line of provenance.
        Raises InvalidFile, InvalidAdapter, InvalidBase, WholeModel, OtherLine, BaseMismatch, BlobNotFound, StaleCommit,
        Gone, QuotaExceeded, and what `promote` raises.
        """
        draft = self._checked(submission, progress)
        with self.database.writing() as catalog:
            return self._publish(catalog, submission, draft)

    def check_submission(self, submission: Submission) -> None:
        """Refuse what would be refused before its files are looked at, so that none is sent for nothing.

        Raises what `publish` raises then: InvalidFile, WrongUsage, NotAllowed, StaleCommit.
        """
        self._check_terms(submission)
        with self.database.reading() as catalog:
            _check_head(submission.name, catalog.commits.head(submission.name), submission.expected_head)
            self._check_line(catalog, submission.name, base=submission.holds_base)

    def _checked(self, submission: Submission, progress: Progress = silent) -> Checked:
        """What is submitted, after every check that needs no lock."""
        self._check_terms(submission)
        self._check_blobs(submission)
        with self.database.reading() as catalog:
            base = self._check_line(catalog, submission.name, base=submission.holds_base)
        if base and not submission.holds_base and _ADAPTER in {file.path for file in submission.files}:
            raise OtherLine(str(submission.name), "a base model", "an adapter")
        if base:
            return self._whole_base(submission.name, submission.files, submission.base, progress)
        return self._draft(submission)

    def _check_terms(self, submission: Submission) -> None:
        check_paths([file.path for file in submission.files])
        check_text("the message", submission.message)
        check_metadata(submission.metadata)
        for alias in submission.aliases:
            check_alias(alias)
        if submission.holds_base and (submission.aliases or submission.metadata or submission.origin):
            raise WrongUsage("a base model makes no version that an alias, metadata or a recipe could belong to")
        self._check_rights(submission)

    def _check_rights(self, submission: Submission) -> None:
        with self.database.reading() as catalog:
            self.require_publishing(catalog, submission.name, submission.aliases)

    def require_publishing(self, catalog: Catalog, name: AdapterName, aliases: Collection[str]) -> None:
        """Refuse whoever may not publish there and point aliases at it. Raises NotAllowed, TeamNotFound."""
        self.require_team(catalog, name.team, Scope.WRITE)
        if aliases:
            self.require(catalog, name, Scope.PROMOTE)

    def _check_blobs(self, submission: Submission) -> None:
        """Every file must lie in the store, whole, brought by this team: a digest alone is no possession."""
        digests = {file.sha256 for file in submission.files}
        self.check_damaged(digests)
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
            return settle_base(catalog.bases, spec, submission.base)

    def _publish(self, catalog: Catalog, submission: Submission, draft: Checked) -> Publication:
        publication = self._add(catalog, submission, draft)
        catalog.events.append("commit.added", submission.name, _event(publication), actor=self.actor)
        return publication

    def _add(self, catalog: Catalog, submission: Submission, draft: Checked) -> Publication:
        at = self.clock()
        with within_quota(catalog, submission.name.team, submission.files):
            commit, version, created = self._added(catalog, submission, draft, at=at)
        if isinstance(draft, WholeBase):
            self._name_base(catalog, commit.adapter, submission.base, draft)
        if version is None:
            return Publication(commit.id, None, created, base=commit.base)
        provenance = self._provenance(commit.id, submission.origin, at)
        catalog.lineage.record(commit.adapter, version.number, provenance)
        mover = Mover(self.actor, at, submission.message or None)
        moves = [
            promote(catalog, version, alias, mover=mover, across_bases=submission.across_bases)
            for alias in submission.aliases
        ]
        return Publication(commit.id, version, created, tuple(moves))

    def _added(
        self, catalog: Catalog, submission: Submission, draft: Checked, *, at: datetime
    ) -> tuple[Commit, Version | None, bool]:
        """The commit, now main's, its version, and whether that is new."""
        name = catalog.adapters.ensure(submission.name, actor=self.actor, at=at)
        self.hold(catalog, name.team, {file.sha256 for file in submission.files})
        head = catalog.commits.head(name)
        _check_head(name, head, submission.expected_head)
        self._refuse_other(catalog, name, head, draft)
        commit = self._commit(replace(submission, name=name), head, at)
        is_new = head is None or commit.id != head.id
        version, created = None, is_new and isinstance(draft, WholeBase)
        if isinstance(draft, Draft):
            version, created = self._version(catalog, commit, submission, draft=draft)
        base = draft.fingerprint if isinstance(draft, WholeBase) else None
        commit = replace(commit, version=version.number if version else None, base=base)
        if is_new:
            catalog.commits.add(commit)
        return commit, version, created

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
        "base": publication.base,
        "created": publication.created,
    }
