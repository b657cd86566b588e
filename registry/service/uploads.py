"""Files on their way in from elsewhere: begun, sent in parts, completed, and forgotten when nobody finishes them.

A team has a blob when one of its members sent all its bytes. That another team has it is told to nobody: the bytes
are sent again, and stored once.
"""

from contextlib import suppress
from datetime import datetime, timedelta

from registry.blobs.checks import check_sha256, new_upload_id
from registry.blobs.parts import PartWriter, part_size_for
from registry.domain.errors import UploadBusy, UploadNotFound
from registry.domain.records import Upload
from registry.domain.reference import check_part
from registry.domain.rights import Scope
from registry.service.arrivals import Arrival, State, is_spoilt, parts_of, refuse_spoilt
from registry.service.completion import Completion
from registry.service.quotas import within_quota
from registry.service.xorbs import Xorbs

KEPT = timedelta(days=7)  # how long an upload may take, and how long its end is remembered
_SWEPT = 10  # forgotten uploads that whoever begins one clears away


class Uploads(Completion, Xorbs):
    """Take files in."""

    def begin_upload(self, team: str, sha256: str, size: int) -> Arrival:
        """Begin to send a file of `size` bytes, or go on with it where the same caller left off.

        It is done at once when the team has the file. Raises WrongUsage, TeamNotFound, NotAllowed, QuotaExceeded.
        """
        check_sha256(sha256)
        check_part(team, "team", team)
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            begun = catalog.uploads.unfinished(team, sha256, size=size, actor=self.actor)
        if self._is_kept(team, sha256, size):
            return Arrival(None, State.DONE)
        if size == 0:
            return self._have_nothing(team, sha256)
        if begun and not is_spoilt(begun):
            with suppress(UploadNotFound):  # the store has forgotten it
                return self._arrival(begun)
        self._sweep()
        return self._open(self._begin(team, sha256, size), {})

    def open_part(self, upload_id: str, number: int) -> PartWriter:
        """Write a part of an upload. Raises UploadNotFound, UploadBusy, WrongUsage for a number that it hasn't."""
        upload = self._upload(upload_id)
        refuse_spoilt(upload)
        if upload.completed_at or self._is_verified(upload):
            raise UploadBusy(upload_id)
        return self.blobs.open_part(parts_of(upload), number)

    def abandon_upload(self, upload_id: str) -> None:
        """Forget an upload and what came of it. Raises UploadNotFound."""
        self._forget(self._upload(upload_id))

    def expire_uploads(self, older_than: timedelta = KEPT) -> int:
        """Forget uploads, and whatever else lies in staging, from before so long; how many there were. For operators.

        Raises NotAllowed.
        """
        self.require_operator("expire", "uploads")
        before = self.clock() - older_than
        count = self._expire_xorbs(before)
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

    def _have_nothing(self, team: str, sha256: str) -> Arrival:
        """The empty file: whoever says its digest has it. Raises DigestMismatch."""
        self.blobs.put([], sha256=sha256, size=0)
        with self.database.writing() as catalog:
            catalog.blobs.register(team, [(sha256, 0)], at=self.clock(), actor=self.actor)
        return Arrival(None, State.DONE)

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
