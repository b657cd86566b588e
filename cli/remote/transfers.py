"""Folders to a server and from it: the methods of `registry.service.transfers`."""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from cli.remote.rooms import Room, adapter_path
from registry.domain import from_documents as records
from registry.domain.digest import sha256_stream
from registry.domain.errors import FileNotInVersion
from registry.domain.records import FileEntry, Version

if TYPE_CHECKING:
    from registry.service.core import Progress
    from registry.service.publishing import Publication, Submission
    from registry.service.workfolder import Pull


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


class Transfers(Room):
    """Push folders, pull versions, open single files."""

    def push_folder(self, folder: Path, submission: "Submission", *, progress: "Progress" = _silent) -> "Publication":
        """Publish a folder, or a single .safetensors file; only what the team hasn't brought before is sent.

        The folder is checked as a whole here before anything is sent, and again by the server.
        """
        from cli.remote.uploads import upload_file  # lazy: start-up time
        from registry.service.inspection import inspect_folder  # lazy: start-up time
        from registry.service.workfolder import select_files  # lazy: start-up time

        assert submission.origin is None, "what a version was made of is for the server to say"
        selection = select_files(folder)
        inspect_folder(selection.folder, selection.kept)
        files = _hashed(selection.folder, selection.kept, progress)
        total, done = sum(file.size for file in files), 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress("sending", done, total)

        for file in {file.sha256: file for file in files}.values():
            path = selection.folder / file.path
            upload_file(self.connection, submission.name.team, path, sha256=file.sha256, size=file.size, progress=moved)
        publication = self._publish(submission, files)
        return replace(publication, left_out=selection.left_out)

    def _publish(self, submission: "Submission", files: Sequence[FileEntry]) -> "Publication":
        from registry.service.publishing import Publication  # lazy: start-up time

        base = submission.base
        wanted = {
            "files": [asdict(file) for file in files],
            "base": asdict(base) if base else None,
            "message": submission.message,
            "metadata": dict(submission.metadata),
            "aliases": list(submission.aliases),
            "expected_head": submission.expected_head,
        }
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        path = f"{adapter_path(submission.name)}/versions"
        document = self.connection.request("POST", path, json=wanted, headers=headers).document

        def read(found: Any) -> Publication:
            version = records.version(found["version"]) if found["version"] else None
            moves = tuple(map(records.move, found["moves"]))
            return Publication(str(found["commit"]), version, bool(found["created"]), moves)

        return self._read(read, document)

    def pull(self, version: Version, to: Path, *, progress: "Progress" = _silent) -> "Pull":
        """Put a version's files at `to`, each verified against its sha256, the folder as a whole at once."""
        from cli.remote.downloads import download_file  # lazy: start-up time
        from registry.service.workfolder import make_room, renew  # lazy: start-up time

        def fill(fresh: Path, missing: list[FileEntry]) -> None:
            total, done = sum(file.size for file in missing), 0

            def moved(count: int) -> None:
                nonlocal done
                done += count
                progress("pulling", done, total)

            for file in missing:
                make_room(fresh, file.path)
                url = _file_path(version, file.path)
                download_file(
                    self.connection, url, fresh / file.path, sha256=file.sha256, size=file.size, progress=moved
                )

        return renew(to, version, fill)

    @contextmanager
    def open_file(self, version: Version, path: str) -> Iterator[BinaryIO]:
        """Read one file of a version as a stream that can be gone back in. Raises FileNotInVersion."""
        from cli.remote.downloads import download_file  # lazy: start-up time

        file = next((file for file in version.files if file.path == path), None)
        if file is None:
            raise FileNotInVersion(version.reference, path)
        with TemporaryDirectory(prefix="adapters-file-") as folder:
            fetched = Path(folder) / hashlib.sha256(path.encode()).hexdigest()
            download_file(self.connection, _file_path(version, path), fetched, sha256=file.sha256, size=file.size)
            with fetched.open("rb") as stream:
                yield stream


def _hashed(folder: Path, paths: Sequence[str], progress: "Progress") -> list[FileEntry]:
    files, done = [], 0
    total = sum((folder / path).stat().st_size for path in paths)
    for path in paths:
        with (folder / path).open("rb") as stream:
            sha256, size = sha256_stream(stream)
        files.append(FileEntry(path, sha256, size))
        done += size
        progress("hashing", done, total)
    return files


def _file_path(version: Version, path: str) -> str:
    # By its commit: a newer one may have another README beside the same weights.
    return f"{adapter_path(version.adapter)}/versions/{version.commit}/files/{quote(path)}"
