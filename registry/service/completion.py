"""Verifying what came of an upload, which takes minutes for tens of gigabytes.

Whoever verifies holds the upload for half a minute at a time and notes how far it is, so that everybody can see it.
A server that dies lets go by that, and the next one begins to read again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TypeGuard

from registry.domain.error_documents import error_document
from registry.domain.errors import (
    Absent,
    AdaptersError,
    BlobNotFound,
    Conflict,
    DatabaseFailure,
    DigestMismatch,
    UploadBusy,
    UploadNotFound,
)
from registry.domain.records import Upload
from registry.service.arrivals import Arrival, Arrivals, parts_of, refuse_spoilt
from registry.service.integrity import Integrity

HELD = timedelta(seconds=30)
BEAT = 5.0  # seconds between two notes of how far it is


class Stopped(Exception):
    """Whoever verifies an upload is to end; the next one begins anew."""


def _never() -> bool:
    return False


def _is_lasting(error: BaseException | None) -> TypeGuard[AdaptersError]:
    """Whether whoever asks later must hear of it: it isn't about others being at it too."""
    return isinstance(error, AdaptersError) and not isinstance(error, Conflict | Absent)


class Completion(Arrivals, Integrity):
    """Complete uploads."""

    def complete_upload(self, upload_id: str, *, stopping: Callable[[], bool] = _never) -> Arrival:
        """Read what came, and let the team have it if it is what was said; a second time does nothing.

        While somebody else reads it, the answer says how far that is. Raises UploadNotFound, UploadIncomplete,
        UploadBusy; DigestMismatch, and then nothing is kept; Stopped once `stopping` says so.
        """
        upload = self._upload(upload_id)
        refuse_spoilt(upload)
        if upload.completed_at is None and self._claim(upload):
            self._complete(upload, stopping)
        return self._arrival(self._upload(upload_id))

    def _claim(self, upload: Upload) -> bool:
        at = self.clock()
        with self.database.writing() as catalog:
            return catalog.uploads.claim(upload.id, at=at, until=at + HELD)

    def _complete(self, upload: Upload, stopping: Callable[[], bool]) -> None:
        try:
            self.make_room(upload.sha256)
            if not self._was_kept(upload):
                with self._held(upload, stopping) as watch:
                    self.blobs.finish_parts(parts_of(upload))
                    self.blobs.complete(upload.id, sha256=upload.sha256, size=upload.size, watch=watch)
            self._register(upload)
        except BlobNotFound:  # it was given up, or somebody else has completed it
            self._release(upload, None)
            raise UploadBusy(upload.id) from None
        except BaseException as error:
            self._release(upload, error)
            raise

    def _was_kept(self, upload: Upload) -> bool:
        """Whether somebody verified it, made it a blob, and was killed before it could be said whose it is."""
        return upload.verified == upload.size and self._is_stored(upload.sha256, upload.size)

    @contextmanager
    def _held(self, upload: Upload, stopping: Callable[[], bool]) -> Iterator[Callable[[int], None]]:
        """Hold an upload while it is read; the caller says how many bytes it has read."""
        read, gone, ended = 0, False, threading.Event()

        def watch(count: int) -> None:
            nonlocal read
            read = count
            if stopping():
                raise Stopped
            if count == upload.size:  # from here on the bytes are proved, whatever happens to us
                note()
            if gone:
                raise UploadNotFound(upload.id)

        def note() -> None:
            nonlocal gone
            with self.database.writing() as catalog:
                gone = not catalog.uploads.go_on(upload.id, verified=read, until=self.clock() + HELD)

        def hold() -> None:
            while not gone and not ended.wait(BEAT):
                with suppress(DatabaseFailure):
                    note()

        holder = threading.Thread(target=hold, name=f"hold-{upload.id}", daemon=True)
        holder.start()
        try:
            yield watch
        finally:
            ended.set()
            holder.join()

    def _register(self, upload: Upload) -> None:
        with self.database.writing() as catalog:
            at = self.clock()
            if not catalog.uploads.complete(upload.id, at=at):
                raise UploadNotFound(upload.id)
            catalog.blobs.register(upload.team, [(upload.sha256, upload.size)], at=at, actor=self.actor)
        self.blobs.discard(upload.id)  # parts that came late

    def _release(self, upload: Upload, error: BaseException | None) -> None:
        """Let go, and remember what was wrong: nobody may be waiting for the answer any more."""
        failure = error_document(error) if _is_lasting(error) else None
        with suppress(DatabaseFailure), self.database.writing() as catalog:
            catalog.uploads.release(upload.id, failure=failure)
        if isinstance(error, DigestMismatch):
            self.blobs.discard(upload.id)
