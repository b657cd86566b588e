"""Folders in and out: a push stores what is missing and publishes, a pull puts a verified folder in place at once."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from registry.domain.digest import CHUNK, read_chunks
from registry.domain.errors import FileNotInVersion
from registry.domain.records import Commit, FileEntry, Version
from registry.domain.resending import resending
from registry.service.bases import settle_base
from registry.service.core import Progress, silent
from registry.service.inspection import inspect_folder
from registry.service.landing import Growing, Moved
from registry.service.publishing import Publication, Submission
from registry.service.repeating import Repeating
from registry.service.workfolder import Pull, Selection, renew, select_files, select_model


class Transfers(Repeating):
    """Push folders, pull versions, open single files."""

    def push_folder(self, folder: Path, submission: Submission, *, progress: Progress = silent) -> Publication:
        """Publish a folder, or a single .safetensors file; `submission.files` is filled in here.

        The folder is checked as a whole before anything is stored. Bytes that are there already are not kept twice.
        Raises what `select_files`, `settle_base` and `publish` raise.
        """
        self._check_rights(submission)
        selection = select_files(folder)
        self._check_folder(selection.folder, selection.kept, submission)
        publication = resending(lambda: self._push(selection, submission, progress))
        return replace(publication, left_out=selection.left_out)

    def publish_base(self, folder: Path, submission: Submission, *, progress: Progress = silent) -> Publication:
        """Publish a folder with a whole base model; `submission.files` is filled in here.

        Which base it is, is found out before anything is stored, and again where it is stored. Raises what
        `select_model` and `publish` raise.
        """
        from registry.formats.base_model import index_base  # lazy: start-up time

        submission = replace(submission, holds_base=True)
        self.check_submission(submission)
        selection = select_model(folder)
        index = index_base(folder, progress=lambda done, total: progress("hashing", done, total))
        with self.database.reading() as catalog:
            self._label_for(catalog, submission.name, submission.base, index.fingerprint)
        publication = resending(lambda: self._push(selection, submission, progress))
        return replace(publication, left_out=selection.left_out)

    def _push(self, selection: Selection, submission: Submission, progress: Progress) -> Publication:
        files = self._kept(selection, submission, progress)
        return self.publish(replace(submission, files=files), progress=progress)

    def _kept(self, selection: Selection, submission: Submission, progress: Progress) -> tuple[FileEntry, ...]:
        """The files of a folder, stored, and the team's."""
        files = self._store(selection.folder, selection.kept, progress)
        with self.database.writing() as catalog:
            blobs = {file.sha256: file.size for file in files}
            catalog.blobs.register(submission.name.team, blobs.items(), at=self.clock(), actor=self.actor)
        return tuple(files)

    def _check_folder(self, folder: Path, paths: Sequence[str], submission: Submission) -> None:
        spec = inspect_folder(folder, paths)
        if spec is not None:
            with self.database.reading() as catalog:
                settle_base(catalog.bases, spec, submission.base)

    def _store(self, folder: Path, paths: Sequence[str], progress: Progress) -> list[FileEntry]:
        sizes = {path: (folder / path).stat().st_size for path in paths}
        total, done, files = sum(sizes.values()), 0, []
        for path, size in sizes.items():
            reading = _Reading(folder / path, done, total, progress)
            stored = self.blobs.ingest(reading.chunks)
            files.append(FileEntry(path, stored.sha256, stored.size))
            done += size
        return files

    def file(self, tree: Version | Commit, path: str) -> FileEntry:
        """One file of a version or a commit. Raises FileNotInVersion."""
        for file in tree.files:
            if file.path == path:
                return file
        raise FileNotInVersion(tree.reference, path)

    def open_file(
        self, tree: Version | Commit, path: str, *, start: int = 0, length: int | None = None
    ) -> AbstractContextManager[BinaryIO]:
        """Read one file of a version or a commit, or a range of it, as a stream; whoever keeps it verifies it.

        Raises FileNotInVersion.
        """
        return self.blobs.open(self.file(tree, path).sha256, start=start, length=length)

    def file_url(self, tree: Version | Commit, path: str, *, seconds: int) -> str | None:
        """A URL of the store that reads one file for so long without credentials, if the store has such.

        Raises FileNotInVersion.
        """
        return self.blobs.presigned_url(self.file(tree, path).sha256, seconds=seconds)

    def pull(self, version: Version, to: Path, *, progress: Progress = silent) -> Pull:
        """Put a version's files at `to`, each verified against its sha256, the folder as a whole at once.

        A folder that an earlier pull left is brought up to date, unchanged files without moving a byte, and what a
        killed one left is gone on with. Anything else that is there already is refused (TargetTaken). Raises
        DigestMismatch for bytes that are not what was pushed.
        """
        return renew(to, version, lambda folder, missing: self._fill(folder, version, missing, progress=progress))

    def _fill(self, folder: Path, version: Version, missing: list[FileEntry], *, progress: Progress) -> int:
        total, done, moved = sum(file.size for file in missing), 0, 0

        def came(count: int) -> None:
            nonlocal done
            done += count
            progress("pulling", done, total)

        for file in missing:
            subject = f"{version.reference} {file.path}"
            moved += self._fetch(file, folder / file.sha256, subject=subject, progress=came)
        return moved

    def _fetch(self, file: FileEntry, to: Path, *, subject: str, progress: Moved) -> int:
        """Put a blob's bytes at `to`, from where an earlier attempt left off; returns how many had to be read."""
        partial = to.with_name(f"{to.name}.part")
        with partial.open("a+b") as target:
            growing = Growing(target, progress)

            def rest() -> int:
                before = growing.size
                with self.blobs.open(file.sha256, start=before) as stream:
                    for chunk in read_chunks(stream, CHUNK):
                        growing.write(chunk)
                return growing.size - before

            moved = growing.finish(file.sha256, file.size, subject=subject, rest=rest)
        partial.replace(to)
        return moved


@dataclass(frozen=True, slots=True)
class _Reading:
    """A file that can be read as often as a store wants; what is shown of it begins at `done` bytes of `total`."""

    path: Path
    done: int
    total: int
    progress: Progress

    def chunks(self) -> Iterator[bytes]:
        with self.path.open("rb") as stream:
            done = self.done
            for chunk in read_chunks(stream, CHUNK):
                yield chunk
                done += len(chunk)
                self.progress("storing", done, self.total)
