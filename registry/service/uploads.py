"""Files on their way in from elsewhere: begun, sent in parts, completed, and forgotten when nobody finishes them.

A team has a blob when one of its members sent all its bytes. That another team has it is told to nobody: the bytes
are sent again, and stored once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry.blobs.checks import UPLOAD_ID, check_sha256, new_upload_id
from registry.blobs.parts import Parts, PartWriter, part_size_for
from registry.domain.errors import BlobNotFound, DigestMismatch, UploadBusy, UploadNotFound
from registry.domain.records import Upload
from registry.domain.reference import check_part
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.service.quotas import within_quota

URL_SECONDS = 3600  # a part of 1 GB at 300 kB/s; whoever is slower asks for the upload again
KEPT = timedelta(days=7)  # how long an upload may take, and how long its end is remembered
_SWEPT = 10  # forgotten uploads that whoever begins one clears away


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an upload. `url` takes it without credentials; None: it is sent to the registry itself."""

    number: int
    size: int
    there: bool
    url: str | None


@dataclass(frozen=True, slots=True)
class Arrival:
    """How far an upload is. `upload` is None when the team had the file before."""

    upload: Upload | None
    parts: tuple[Part, ...]

    @property
    def done(self) -> bool:
        return self.upload is None or self.upload.completed_at is not None


class Uploads(UseCases):
    """Take files in."""

    def begin_upload(self, team: str, sha256: str, size: int) -> Arrival:
        """Begin to send a file of `size` bytes, or go on with it where the same caller left off.

        It is done at once when the team has the file. Raises WrongUsage, TeamNotFound, NotAllowed, QuotaExceeded.
        """
        check_sha256(sha256)
        check_part(team, "team", team)
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            possessed = bool(catalog.blobs.possessed(team, [sha256]))
            begun = catalog.uploads.unfinished(team, sha256, size=size, actor=self.actor)
        if possessed and self._is_stored(sha256, size):
            return Arrival(None, ())
        if size == 0:
            return self._have_nothing(team, sha256)
        if begun and (there := self.blobs.list_parts(_parts(begun))) is not None:
            return self._arrival(begun, there)
        self._sweep()
        return self._arrival(self._begin(team, sha256, size), {})

    def upload(self, upload_id: str) -> Arrival:
        """How far an upload is, with fresh URLs for what is missing. Raises UploadNotFound."""
        upload = self._upload(upload_id)
        there = {} if upload.completed_at else self.blobs.list_parts(_parts(upload))
        if there is None:
            raise UploadNotFound(upload_id)
        return self._arrival(upload, there)

    def open_part(self, upload_id: str, number: int) -> PartWriter:
        """Write a part of an upload. Raises UploadNotFound, UploadBusy, WrongUsage for a number that it hasn't."""
        upload = self._upload(upload_id)
        if upload.completed_at:
            raise UploadBusy(upload_id)
        return self.blobs.open_part(_parts(upload), number)

    def complete_upload(self, upload_id: str) -> Arrival:
        """Read what came, and let the team have it if it is what was said; a second time does nothing.

        Raises UploadNotFound, UploadIncomplete, UploadBusy; DigestMismatch, and then nothing is kept.
        """
        upload = self._upload(upload_id)
        if upload.completed_at is None:
            self._keep(upload)
            upload = self._upload(upload_id)
        return self._arrival(upload, {})

    def abandon_upload(self, upload_id: str) -> None:
        """Forget an upload and what came of it. Raises UploadNotFound."""
        self._forget(self._upload(upload_id))

    def expire_uploads(self, older_than: timedelta = KEPT) -> int:
        """Forget uploads, and whatever else lies in staging, from before so long; how many there were. For operators.

        Raises NotAllowed.
        """
        self.require_operator("expire", "uploads")
        before, count = self.clock() - older_than, 0
        while some := self._begun_before(before, limit=100):
            for upload in some:
                self._forget(upload)
            count += len(some)
        for staged in list(self.blobs.staged()):
            if staged.modified_at < before:
                self.blobs.discard(staged.upload_id)
                count += 1
        with self.database.writing() as catalog:
            catalog.answered.forget_before(before)
        return count

    # -- parts --------------------------------------------------------------------------------------------------------

    def _upload(self, upload_id: str) -> Upload:
        """An upload for a team that the caller may write to: of any other it isn't told that it exists."""
        with self.database.reading() as catalog:
            upload = catalog.uploads.find(upload_id) if UPLOAD_ID.fullmatch(upload_id) else None
            if upload is None or not self._may(catalog, Scope.WRITE, upload.team):
                raise UploadNotFound(upload_id)
        return upload

    def _is_stored(self, sha256: str, size: int) -> bool:
        stat = self.blobs.stat(sha256)
        return stat is not None and stat.size == size

    def _have_nothing(self, team: str, sha256: str) -> Arrival:
        """The empty file: whoever says its digest has it. Raises DigestMismatch."""
        self.blobs.put([], sha256=sha256, size=0)
        with self.database.writing() as catalog:
            catalog.blobs.register(team, [(sha256, 0)], at=self.clock(), actor=self.actor)
        return Arrival(None, ())

    def _begin(self, team: str, sha256: str, size: int) -> Upload:
        part_size_for(size)  # refuses an impossible size before anything is begun
        parts = self.blobs.begin_parts(new_upload_id("upload"), size=size)
        upload = Upload(
            id=parts.upload_id,
            team=team,
            sha256=sha256,
            size=size,
            part_size=parts.part_size,
            session=parts.session,
            actor=self.actor,
            created_at=self.clock(),
        )
        try:
            with self.database.writing() as catalog, within_quota(catalog, team, incoming=True):
                catalog.uploads.add(upload)
        except BaseException:
            self.blobs.discard(upload.id)
            raise
        return upload

    def _arrival(self, upload: Upload, there: Mapping[int, int]) -> Arrival:
        if upload.completed_at:
            return Arrival(upload, ())
        parts = _parts(upload)
        return Arrival(upload, tuple(self._part(parts, n, there.get(n)) for n in range(1, parts.count + 1)))

    def _part(self, parts: Parts, number: int, found: int | None) -> Part:
        size = parts.size_of(number)
        there = found == size
        url = None if there else self.blobs.part_url(parts, number, seconds=URL_SECONDS)
        return Part(number, size, there, url)

    def _keep(self, upload: Upload) -> None:
        try:
            self.blobs.finish_parts(_parts(upload))
            self.blobs.complete(upload.id, sha256=upload.sha256, size=upload.size)
        except BlobNotFound:  # somebody else completes it at this moment
            raise UploadBusy(upload.id) from None
        except DigestMismatch:
            self._forget(upload)
            raise
        with self.database.writing() as catalog:
            at = self.clock()
            catalog.blobs.register(upload.team, [(upload.sha256, upload.size)], at=at, actor=self.actor)
            catalog.uploads.complete(upload.id, at=at)
        self.blobs.discard(upload.id)  # parts that came late

    def _forget(self, upload: Upload) -> None:
        with self.database.writing() as catalog:
            catalog.uploads.delete(upload.id)
        self.blobs.discard(upload.id)

    def _sweep(self) -> None:
        """Clear some of what nobody finished: no timer has to run for it."""
        before = self.clock() - KEPT
        for upload in self._begun_before(before, limit=_SWEPT):
            self._forget(upload)

    def _begun_before(self, before: datetime, *, limit: int) -> list[Upload]:
        with self.database.reading() as catalog:
            return catalog.uploads.begun_before(before, limit=limit)


def _parts(upload: Upload) -> Parts:
    return Parts(upload.id, upload.size, upload.part_size, upload.session)
