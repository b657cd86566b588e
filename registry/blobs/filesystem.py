"""Blobs in a folder of a local file system, laid out as `store.py` draws it.

A file gets its final name by a rename, after its bytes are verified and on the disk, and the folder is synced before
anybody hears of it: a crash at any moment leaves a whole blob or none. What a killed process leaves is in staging.
Folders are private to their owner, a blob is not even writable by its owner, and a symbolic link is never a blob.
"""

import io
import os
import stat as modes
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from registry.blobs import part_files
from registry.blobs.checks import (
    SHA256,
    UPLOAD_ID,
    Hashed,
    Watch,
    check_prefix,
    check_range,
    check_sha256,
    check_upload_id,
    exhaust,
    new_upload_id,
    unwatched,
    verified,
)
from registry.blobs.disk import Span, make_folder, storage_failure, sync_folder, write_file
from registry.blobs.part_files import PartFile
from registry.blobs.parts import Parts, part_size_for
from registry.blobs.store import BlobStat, Ingested, StagedStat
from registry.domain.digest import read_chunks
from registry.domain.errors import BlobNotFound, DigestMismatch, StorageFailure, UploadNotFound

BLOB_MODE = 0o400


class FolderStore:
    """A blob store in one folder, which is created by the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._blobs = root / "blobs"
        self._staging = root / "staging"

    def put(self, chunks: Iterable[bytes], *, sha256: str, size: int) -> bool:
        """Store a blob. One that is there is replaced by the same bytes, now verified: a damaged one is repaired."""
        check_sha256(sha256)
        with self._scratch("put") as scratch:
            write_file(scratch, verified(chunks, sha256=sha256, size=size, subject="the pushed bytes"))
            return self._publish(scratch, sha256)

    def ingest(self, read: Callable[[], Iterable[bytes]]) -> Ingested:
        """Store bytes while they are hashed: one reading, and the disk works meanwhile."""
        hashed = Hashed(read())
        with self._scratch("ingest") as scratch:
            write_file(scratch, hashed)
            return Ingested(hashed.sha256, hashed.size, self._publish(scratch, hashed.sha256))

    def stage(self, upload_id: str, chunks: Iterable[bytes]) -> int:
        check_upload_id(upload_id)
        with self._scratch("stage") as scratch:
            size = write_file(scratch, chunks)
            with storage_failure("staging", upload_id):
                scratch.replace(self._staging / upload_id)
                sync_folder(self._staging)
        return size

    def complete(self, upload_id: str, *, sha256: str, size: int, watch: Watch = unwatched) -> bool:
        check_upload_id(upload_id)
        check_sha256(sha256)
        staged = self._staging / upload_id
        try:
            with self._open(staged) as stream:
                before = os.fstat(stream.fileno())
                subject = f"upload {upload_id}"
                exhaust(verified(read_chunks(stream), sha256=sha256, size=size, subject=subject, watch=watch))
                return self._publish_unchanged(staged, before, sha256)
        except FileNotFoundError:
            raise BlobNotFound(sha256) from None
        except DigestMismatch:
            self.discard(upload_id)
            raise

    def open_staged(self, upload_id: str, *, start: int = 0, length: int) -> AbstractContextManager[BinaryIO]:
        check_upload_id(upload_id)
        check_range(start, length)
        try:
            stream = self._open(self._staging / upload_id)
        except FileNotFoundError:
            raise UploadNotFound(upload_id) from None
        stream.seek(start)
        return io.BufferedReader(Span(stream, length))

    def discard(self, upload_id: str) -> None:
        check_upload_id(upload_id)
        part_files.remove(self._parts(upload_id))
        with storage_failure("discarding", upload_id), suppress(FileNotFoundError):
            (self._staging / upload_id).unlink()

    def staged(self) -> Iterator[StagedStat]:
        for name, status in _entries(self._staging):
            upload_id = name.removesuffix(part_files.SUFFIX)
            if not UPLOAD_ID.fullmatch(upload_id):
                continue
            if modes.S_ISDIR(status.st_mode) and name != upload_id:
                there = part_files.marked(self._staging / name)
                yield StagedStat(upload_id, sum(there.values()), _modified_at(status))
            elif modes.S_ISREG(status.st_mode) and name == upload_id:
                yield StagedStat(upload_id, status.st_size, _modified_at(status))

    def begin_parts(self, upload_id: str, *, size: int) -> Parts:
        """Nothing is written yet: the first part makes the folder."""
        check_upload_id(upload_id)
        return Parts(upload_id, size, part_size_for(size))

    def part_url(self, parts: Parts, number: int, *, seconds: int) -> str | None:
        parts.offset_of(number)
        return None

    def open_part(self, parts: Parts, number: int) -> PartFile:
        return PartFile(self._parts(parts.upload_id), parts, number)

    def list_parts(self, parts: Parts) -> dict[int, int] | None:
        if (self._staging / parts.upload_id).is_file():
            return {number: parts.size_of(number) for number in range(1, parts.count + 1)}
        return part_files.marked(self._parts(parts.upload_id))

    def finish_parts(self, parts: Parts) -> None:
        part_files.join(self._parts(parts.upload_id), parts, self._staging / parts.upload_id)

    def open(self, sha256: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        check_sha256(sha256)
        check_range(start, length)
        try:
            stream = self._open(self._path(sha256))
        except FileNotFoundError:
            raise BlobNotFound(sha256) from None
        stream.seek(start)
        return stream if length is None else io.BufferedReader(Span(stream, length))

    def presigned_url(self, sha256: str, *, seconds: int) -> str | None:
        check_sha256(sha256)
        return None

    def stat(self, sha256: str) -> BlobStat | None:
        check_sha256(sha256)
        path = self._path(sha256)
        with storage_failure("reading", path):
            try:
                status = path.lstat()
            except FileNotFoundError:
                return None
        _refuse_unless_file(path, status)
        return BlobStat(sha256, status.st_size, _modified_at(status))

    def delete(self, sha256: str) -> bool:
        check_sha256(sha256)
        path = self._path(sha256)
        with storage_failure("deleting", path):
            try:
                path.unlink()
                sync_folder(path.parent)
            except FileNotFoundError:
                return False
        return True

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        check_prefix(prefix)
        return self._list(prefix)

    def _list(self, prefix: str) -> Iterator[BlobStat]:
        """One folder's names are held at a time: a 256th of the store."""
        for head in (f"{number:02x}" for number in range(256)):
            if not head.startswith(prefix[:2]):
                continue
            for name, status in _files(self._blobs / head):
                if SHA256.fullmatch(name) and name.startswith(prefix) and name.startswith(head):
                    yield BlobStat(name, status.st_size, _modified_at(status))

    def _parts(self, upload_id: str) -> Path:
        check_upload_id(upload_id)
        return part_files.folder_of(self._staging, upload_id)

    def _path(self, sha256: str) -> Path:
        return self._blobs / sha256[:2] / sha256

    def _open(self, path: Path) -> io.BufferedReader:
        """Open a regular file. Raises FileNotFoundError; StorageFailure for a symbolic link or anything else."""
        with storage_failure("reading", path, but=FileNotFoundError):
            status = path.lstat()
            _refuse_unless_file(path, status)
            return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb")

    @contextmanager
    def _scratch(self, purpose: str) -> Iterator[Path]:
        """A path in staging for one write; whatever is left there afterwards is removed."""
        scratch = self._staging / new_upload_id(purpose)
        with storage_failure("creating", self._staging):
            make_folder(self._staging)
        try:
            yield scratch
        finally:
            with suppress(OSError):
                scratch.unlink()

    def _publish_unchanged(self, staged: Path, verified_as: os.stat_result, sha256: str) -> bool:
        """Publish the very file that was verified: one that replaced it since, or was written to, is refused."""
        with self._scratch("complete") as claimed:
            with storage_failure("claiming", staged, but=FileNotFoundError):
                staged.replace(claimed)
                now = claimed.lstat()
            if _identity(now) != _identity(verified_as):
                raise StorageFailure(f"upload {staged.name} was changed while it was being verified; upload it again")
            return self._publish(claimed, sha256)

    def _publish(self, verified_file: Path, sha256: str) -> bool:
        """Give a verified, synced file its final name; whether there was none before."""
        final = self._path(sha256)
        with storage_failure("publishing", final):
            make_folder(final.parent)
            new = not os.path.lexists(final)
            verified_file.chmod(BLOB_MODE)
            verified_file.replace(final)
            sync_folder(final.parent)
            sync_folder(self._blobs)  # whoever made the folder may not have come to it yet
        return new


def _refuse_unless_file(path: Path, status: os.stat_result) -> None:
    if not modes.S_ISREG(status.st_mode):
        raise StorageFailure(f"{path} is a symbolic link or a special file, not a blob")


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _modified_at(status: os.stat_result) -> datetime:
    return datetime.fromtimestamp(status.st_mtime, UTC)


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Regular files of a folder by name."""
    return ((name, status) for name, status in _entries(folder) if modes.S_ISREG(status.st_mode))


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """What is in a folder, by name, without what vanishes meanwhile; nothing if there is no such folder."""
    with storage_failure("listing", folder):
        try:
            names = sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            return
    for name in names:
        with storage_failure("listing", folder), suppress(FileNotFoundError):
            yield name, (folder / name).lstat()
