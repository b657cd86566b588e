"""Commits as clients of a repository make them: changes to what main has, in place of a file tree as a whole.

They end in the one gate like everything else. Somebody may commit at the same time: changes that name no parent are
made anew to what main has by then, those that name one are refused. A commit that is sent again because its answer was
lost is answered again, and not made twice.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from registry.blobs.checks import new_upload_id
from registry.domain.errors import (
    AdapterNotFound,
    BlobNotFound,
    FileNotInVersion,
    Gone,
    InvalidFile,
    NotActive,
    StaleCommit,
    UnsupportedAdapter,
    VersionNotFound,
)
from registry.domain.paths import check_path, is_pickled_weights, travels
from registry.domain.records import Adapter, Commit, FileEntry, Upload
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Scope
from registry.domain.texts import check_text
from registry.service.history import beginning, is_of_present_line, take
from registry.service.publishing import Publishing, Submission
from registry.service.quotas import within_quota
from registry.sql.catalog import Catalog

_ATTEMPTS = 32  # each time that one fails, somebody else's commit was made
_PAUSE = 0.05  # seconds at most, so that those who met don't meet again


@dataclass(frozen=True, slots=True)
class Put:
    """A file gets a content that the team has; `size` None: of whatever size that is."""

    path: str
    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """A file goes, or a folder with all that is in it."""

    path: str
    folder: bool = False


@dataclass(frozen=True, slots=True)
class Changes:
    """What a commit changes, in this order. `parent` is the commit that it must be made to, if the client cares."""

    name: AdapterName
    changes: tuple[Put | Delete, ...]
    message: str = ""
    parent: str | None = None

    @property
    def additions(self) -> tuple[Put, ...]:
        return tuple(change for change in self.changes if isinstance(change, Put))


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that a team is to have; every call of `read` gives them from their beginning."""

    sha256: str
    size: int
    read: Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Writable:
    """An adapter that the caller may write to: its newest commit, and what main shows, which changes are made to.

    They differ while the version of the newest one is withdrawn. Before the first commit there is neither.
    """

    adapter: Adapter
    head: Commit | None
    shown: Commit | None


class Committing(Publishing):
    """Commit changes."""

    def writable(self, name: AdapterName) -> Writable:
        """What a commit would change. Raises AdapterNotFound, NotAllowed."""
        with self.database.reading() as catalog:
            self.require(catalog, name, Scope.WRITE)
            adapter = catalog.adapters.find(name)
            if adapter is None or adapter.deleted_at is not None:
                raise AdapterNotFound(str(name))
            head = catalog.commits.head(name)
            return Writable(adapter, head, _shown(catalog, name) or head)

    def keep(self, team: str, contents: Sequence[Content]) -> None:
        """Store small files for a commit. Raises TeamNotFound, NotAllowed, QuotaExceeded, DigestMismatch."""
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            limited = catalog.quotas.find(team) is not None
        known = self.possessed(team, [content.sha256 for content in contents])
        new = [content for content in contents if content.sha256 not in known or not self.blobs.stat(content.sha256)]
        if limited:
            self._note_incoming(team, new)
        for content in new:
            self.make_room(content.sha256)
            self.blobs.put(content.read(), sha256=content.sha256, size=content.size)
        if new:
            sizes = {content.sha256: content.size for content in new}
            with self.database.writing() as catalog:
                catalog.blobs.register(team, sizes.items(), at=self.clock(), actor=self.actor)

    def _note_incoming(self, team: str, contents: Sequence[Content]) -> None:
        """Count files that are sent as a whole among those on their way in, as long as no commit holds them."""
        at = self.clock()
        with self.database.writing() as catalog, within_quota(catalog, team, incoming=True):
            for content in contents:
                name = new_upload_id("kept")
                size = content.size
                catalog.uploads.add(
                    Upload(name, team, content.sha256, size, size, "", self.actor, created_at=at, completed_at=at)
                )

    def commit(self, changes: Changes) -> str:
        """Change what main has; returns the commit (40 hex) that it has then, which is the old one if nothing changes.

        Raises FileNotInVersion for a deletion of what isn't there, StaleCommit, and what `publish` raises.
        """
        self.check_changes(changes)
        for attempt in range(1, _ATTEMPTS + 1):
            main = self.writable(changes.name)
            if made := self._made_before(main, changes):
                return made.id
            try:
                return self._commit_to(main, changes)
            except StaleCommit:
                if changes.parent is not None or attempt == _ATTEMPTS:
                    raise
                time.sleep(random.uniform(0, _PAUSE))  # noqa: S311 - spreads attempts, hides nothing
        raise AssertionError

    def check_changes(self, changes: Changes) -> None:
        """Refuse what would be refused whatever main has and the files hold. Raises as `commit` does."""
        check_text("the message", changes.message)
        for file in changes.additions:
            check_addition(file.path)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _commit_to(self, main: Writable, changes: Changes) -> str:
        shown = main.shown.id if main.shown else ""
        if changes.parent is not None and changes.parent != shown:
            raise StaleCommit(str(main.adapter.name), changes.parent, shown or "no commit")
        files = _changed(main.adapter.name, main.shown, self._sized(changes))
        if main.shown and main.shown.files == files:
            return shown
        head = main.head.id if main.head else ""
        submission = Submission(main.adapter.name, files, message=changes.message, expected_head=head)
        return self.publish(submission).commit

    def _made_before(self, main: Writable, changes: Changes) -> Commit | None:
        """The caller's own commit of these very changes to their parent, if main has it (without one: as its last)."""
        name, head = main.adapter.name, main.head
        if head is None:
            return None
        as_last = changes.parent in (None, beginning(main.adapter).id)
        with self.database.reading() as catalog:
            made = head if as_last else catalog.commits.child(name, changes.parent or "")
            if made is None or (made.author, made.message) != (self.actor, changes.message):
                return None
            if not is_of_present_line(catalog, made, main.adapter):
                return None
            before = catalog.commits.find(name, made.parent) if made.parent else None
        try:
            files = _changed(name, before, self._sized(changes))
        except (FileNotInVersion, BlobNotFound):
            return None
        return made if files == made.files else None

    def _sized(self, changes: Changes) -> list[Put | Delete]:
        """The changes with the sizes that the store knows. Raises BlobNotFound for what the team doesn't have."""
        unsized = {file.sha256 for file in changes.additions if file.size is None}
        if not unsized:
            return list(changes.changes)
        possessed = self.possessed(changes.name.team, unsized)
        sizes = {sha256: self._size_of(sha256) for sha256 in possessed}
        return [_with_size(change, sizes) for change in changes.changes]

    def _size_of(self, sha256: str) -> int:
        stat = self.blobs.stat(sha256)
        if stat is None:
            raise BlobNotFound(sha256)
        return stat.size


def _shown(catalog: Catalog, name: AdapterName) -> Commit | None:
    try:
        return take(catalog, Reference(name)).commit
    except (Gone, NotActive, VersionNotFound):
        return None


def check_addition(path: str) -> None:
    """Refuse what may not be committed, by its name. Raises InvalidFile, UnsupportedAdapter."""
    check_path(path)
    if is_pickled_weights(path):
        from registry.formats.tensor_file import CONVERT_PICKLE  # lazy: start-up time

        raise UnsupportedAdapter(path, "weights in a pickle", CONVERT_PICKLE)
    if not travels(path):
        kept = "weights, configuration, tokenizer and texts are; training state, logs and hidden files are not"
        raise InvalidFile(path, "path", f"it is no file of an adapter: {kept}")


def _with_size(change: Put | Delete, sizes: dict[str, int]) -> Put | Delete:
    if isinstance(change, Delete) or change.size is not None:
        return change
    if change.sha256 not in sizes:
        raise BlobNotFound(change.sha256)
    return Put(change.path, change.sha256, sizes[change.sha256])


def _changed(name: AdapterName, head: Commit | None, changes: Iterable[Put | Delete]) -> tuple[FileEntry, ...]:
    """The files of a commit, sorted, after changes. Raises FileNotInVersion for a deletion of what isn't there."""
    files = {file.path: file for file in head.files} if head else {}
    for change in changes:
        if isinstance(change, Put):
            assert change.size is not None
            files[change.path] = FileEntry(change.path, change.sha256, change.size)
            continue
        gone = [path for path in files if _is_below(path, change)]
        if not gone:
            raise FileNotInVersion(str(name), change.path)
        for path in gone:
            del files[path]
    return tuple(files[path] for path in sorted(files))


def _is_below(path: str, deletion: Delete) -> bool:
    folder = deletion.path.rstrip("/")
    return path.startswith(f"{folder}/") if deletion.folder else path == deletion.path
