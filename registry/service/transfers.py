"""Folders in and out: a push stores what is missing and publishes, a pull puts a verified folder in place at once."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from registry.domain.digest import CHUNK, read_chunks
from registry.domain.errors import DigestMismatch, FileNotInVersion
from registry.domain.records import FileEntry, Version
from registry.service.bases import settle_base
from registry.service.core import Progress, silent
from registry.service.inspection import inspect_folder
from registry.service.publishing import Publication, Publishing, Submission
from registry.service.workfolder import Pull, make_room, renew, select_files


class Transfers(Publishing):
    """Push folders, pull versions, open single files."""

    def push_folder(self, folder: Path, submission: Submission, *, progress: Progress = silent) -> Publication:
        """Publish a folder, or a single .safetensors file; `submission.files` is filled in here.

        The folder is checked as a whole before anything is stored. Bytes that are there already are not kept twice.
        Raises what `select_files`, `settle_base` and `publish` raise.
        """
        self._check_rights(submission)
        selection = select_files(folder)
        self._check_folder(selection.folder, selection.kept, submission)
        files = self._store(selection.folder, selection.kept, progress)
        with self.database.writing() as catalog:
            blobs = {file.sha256: file.size for file in files}
            catalog.blobs.register(submission.name.team, blobs.items(), at=self.clock(), actor=self.actor)
        publication = self.publish(replace(submission, files=tuple(files)))
        return replace(publication, left_out=selection.left_out)

    def _check_folder(self, folder: Path, paths: Sequence[str], submission: Submission) -> None:
        spec = inspect_folder(folder, paths)
        if spec is not None:
            with self.database.reading() as catalog:
                settle_base(catalog, spec, submission.base)

    def _store(self, folder: Path, paths: Sequence[str], progress: Progress) -> list[FileEntry]:
        sizes = {path: (folder / path).stat().st_size for path in paths}
        total, done, files = sum(sizes.values()), 0, []
        for path, size in sizes.items():
            reading = _Reading(folder / path, done, total, progress)
            stored = self.blobs.ingest(reading.chunks)
            files.append(FileEntry(path, stored.sha256, stored.size))
            done += size
        return files

    def file(self, version: Version, path: str) -> FileEntry:
        """One file of a version. Raises FileNotInVersion."""
        for file in version.files:
            if file.path == path:
                return file
        raise FileNotInVersion(version.reference, path)

    def open_file(
        self, version: Version, path: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Read one file of a version, or a range of it, as a stream; whoever keeps it verifies it.

        Raises FileNotInVersion.
        """
        return self.blobs.open(self.file(version, path).sha256, start=start, length=length)

    def file_url(self, version: Version, path: str, *, seconds: int) -> str | None:
        """A URL of the store that reads one file for so long without credentials, if the store has such.

        Raises FileNotInVersion.
        """
        return self.blobs.presigned_url(self.file(version, path).sha256, seconds=seconds)

    def pull(self, version: Version, to: Path, *, progress: Progress = silent) -> Pull:
        """Put a version's files at `to`, each verified against its sha256, the folder as a whole at once.

        A folder that an earlier pull left is brought up to date, unchanged files without moving a byte. Anything else
        that is there already is refused (TargetTaken). Raises DigestMismatch for bytes that are not what was pushed.
        """
        return renew(to, version, lambda fresh, missing: self._fill(fresh, version, missing, progress=progress))

    def _fill(self, fresh: Path, version: Version, missing: list[FileEntry], *, progress: Progress) -> None:
        total, done = sum(file.size for file in missing), 0
        for file in missing:
            make_room(fresh, file.path)
            with self.blobs.open(file.sha256) as stream, (fresh / file.path).open("xb") as target:
                chunks = _watched(stream, "pulling", done, total=total, progress=progress)
                _copy_verified(chunks, target, file, subject=f"{version.reference} {file.path}")
            done += file.size


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file that can be read as often as a store wants; what is shown of it begins at `done` bytes of `total`."""

    path: Path
    done: int
    total: int
    progress: Progress

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            yield from _watched(stream, "storing", self.done, total=self.total, progress=self.progress)


def _watched(stream: BinaryIO, what: str, done: int, *, total: int, progress: Progress) -> Iterator[bytes]:
    for chunk in read_chunks(stream, CHUNK):
        yield chunk
        done += len(chunk)
        progress(what, done, total)


def _copy_verified(chunks: Iterator[bytes], target: BinaryIO, file: FileEntry, *, subject: str) -> None:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    if digest.hexdigest() != file.sha256 or size != file.size:
        raise DigestMismatch(subject, file.sha256, file.size, digest.hexdigest(), size)
