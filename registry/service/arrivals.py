"""How far an upload is: what a caller may see of it, and what is known of it in the catalog and the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from registry.blobs.checks import UPLOAD_ID
from registry.blobs.parts import Parts
from registry.domain.error_documents import error_from
from registry.domain.errors import DigestMismatch, Failure, UploadNotFound
from registry.domain.records import Upload
from registry.domain.rights import Scope
from registry.service.core import UseCases

URL_SECONDS = 3600  # a part of 1 GB at 300 kB/s; whoever is slower asks for the upload again


class State(StrEnum):
    """Of an upload: parts may come, what came is being read, the team has the file."""

    OPEN = "open"
    VERIFYING = "verifying"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload. `url` takes it without credentials; None: it is sent to the registry itself."""

    number: int
    size: int
    there: bool
    url: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """How far an upload is. `upload` is None when the team had the file before; `parts` are those of an open one."""

    upload: Upload | None
    state: State
    parts: tuple[Part, ...] = ()

    @property
    def done(self) -> bool:
        return self.state is State.DONE


class Arrivals(UseCases):
    """Look at uploads."""

    def upload(self, upload_id: str) -> Arrival:
        """How far an upload is, with fresh URLs for what is missing.

        Raises UploadNotFound, and what was wrong when it was verified.
        """
        upload = self._upload(upload_id)
        if upload.failure:
            raise _failure(upload)
        return self._arrival(upload)

    def _upload(self, upload_id: str) -> Upload:
        """An upload for a team that the caller may write to: of any other it isn't told that it exists."""
        with self.database.reading() as catalog:
            upload = catalog.uploads.find(upload_id) if UPLOAD_ID.fullmatch(upload_id) else None
            if upload is None or not self._may(catalog, Scope.WRITE, upload.team):
                raise UploadNotFound(upload_id)
        return upload

    def _arrival(self, upload: Upload) -> Arrival:
        """How far an upload is. Raises UploadNotFound when the store has forgotten it, or what came of it."""
        if upload.completed_at:
            if not self._is_kept(upload.team, upload.sha256, upload.size):
                raise UploadNotFound(upload.id)
            return Arrival(upload, State.DONE)
        if self._is_verified(upload):
            return Arrival(upload, State.VERIFYING)
        there = self.blobs.list_parts(parts_of(upload))
        if there is None:
            raise UploadNotFound(upload.id)
        return self._open(upload, there)

    def _is_verified(self, upload: Upload) -> bool:
        """Whether somebody is verifying it. Whoever was killed is thought to go on for a moment."""
        return upload.verifying_until is not None and upload.verifying_until > self.clock()

    def _is_stored(self, sha256: str, size: int) -> bool:
        stat = self.blobs.stat(sha256)
        return stat is not None and stat.size == size

    def _is_kept(self, team: str, sha256: str, size: int) -> bool:
        """Whether a team has a file, which then stays for the grace from now at least."""
        return bool(self.possessed(team, [sha256])) and self._is_stored(sha256, size)

    def _open(self, upload: Upload, there: Mapping[int, int]) -> Arrival:
        parts = parts_of(upload)
        numbers = range(1, parts.count + 1)
        return Arrival(upload, State.OPEN, tuple(self._part(parts, number, there.get(number)) for number in numbers))

    def _part(self, parts: Parts, number: int, found: int | None) -> Part:
        size = parts.size_of(number)
        there = found == size
        url = None if there else self.blobs.part_url(parts, number, seconds=URL_SECONDS)
        return Part(number, size, there, url)


def parts_of(upload: Upload) -> Parts:
    """An upload as the blob store knows it."""
    return Parts(upload.id, upload.size, upload.part_size, upload.session)


def is_spoilt(upload: Upload) -> bool:
    """Whether other bytes came than were said: nothing is kept of it, and it can't be gone on with."""
    return upload.failure is not None and upload.failure.get("error") == DigestMismatch.code


def _failure(upload: Upload) -> Exception:
    assert upload.failure is not None
    return error_from(upload.failure) or Failure(str(upload.failure["message"]))


def refuse_spoilt(upload: Upload) -> None:
    """Raises DigestMismatch, as it was found, for an upload of other bytes than were said."""
    if is_spoilt(upload):
        raise _failure(upload)
