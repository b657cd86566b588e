"""Folders to a server and from it: the methods of `registry.service.transfers`."""

import hashlib
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from cli.remote.changes import Changes
from cli.remote.rooms import adapter_path
from registry.domain import from_documents as records
from registry.domain.digest import sha256_stream
from registry.domain.errors import BaseNotFound, FileNotInVersion
from registry.domain.records import BaseModel, FileEntry, Version
from registry.domain.resending import resending

if TYPE_CHECKING:
    from cli.remote.connection import Answer
    from registry.domain.bases import BaseIndex
    from registry.service.core import Progress
    from registry.service.publishing import Publication, Submission
    from registry.service.workfolder import Pull


_ACCEPTED = 202


def _silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


class Transfers(Changes):
    """Push folders, pull versions, open single files."""

    def push_folder(self, folder: Path, submission: "Submission", *, progress: "Progress" = _silent) -> "Publication":
        """Publish a folder, or a single .safetensors file; only what the team hasn't brought before is sent.

        The folder is checked as a whole here, against its base too, before anything is sent; and again by the server.
        """
        from registry.service.bases import settle_base  # lazy: start-up time
        from registry.service.inspection import inspect_folder  # lazy: start-up time
        from registry.service.workfolder import select_files  # lazy: start-up time

        assert submission.origin is None, "what a version was made of is for the server to say"
        selection = select_files(folder)
        if spec := inspect_folder(selection.folder, selection.kept):
            settle_base(_ServersBases(self), spec, submission.base)
        files = _hashed(selection.folder, selection.kept, progress)
        self._submit(submission, files, dry_run=True)

        def publish() -> "Publication":
            self._send(submission.name.team, selection.folder, files, progress)
            return self._publish(submission, files)

        return replace(resending(publish), left_out=selection.left_out)

    def publish_base(self, folder: Path, submission: "Submission", *, progress: "Progress" = _silent) -> "Publication":
        """Publish a folder with a whole base model; only what the team hasn't brought before is sent."""
        from registry.service.workfolder import select_model  # lazy: start-up time

        selection = select_model(folder)
        self.check_submission(replace(submission, holds_base=True))
        files = _hashed(selection.folder, selection.kept, progress)
        self._send(submission.name.team, selection.folder, files, progress)
        wanted = _base_wanted(submission, files)
        path, key = f"{adapter_path(submission.name)}/base", {"Idempotency-Key": uuid.uuid4().hex}
        while (answer := self.connection.request("POST", path, json=wanted, headers=key)).status == _ACCEPTED:
            done, of = self._read(lambda found: (int(found["done"]), int(found["of"])), answer.document)
            progress("checking", done, of)
        return replace(self._read(_publication, answer.document), left_out=selection.left_out)

    def check_submission(self, submission: "Submission") -> None:
        """Refuse what would be refused before its files are looked at."""
        files = submission.files or (FileEntry("config.json", "0" * 64, 0),)
        if not submission.holds_base:
            self._submit(submission, files, dry_run=True)
            return
        wanted = _base_wanted(submission, files) | {"dry_run": True}
        key = {"Idempotency-Key": uuid.uuid4().hex}
        self.connection.request("POST", f"{adapter_path(submission.name)}/base", json=wanted, headers=key)

    def _send(self, team: str, folder: Path, files: Sequence[FileEntry], progress: "Progress") -> None:
        """Let a team have what it hasn't brought before."""
        from cli.remote.uploads import upload_file  # lazy: start-up time

        total, done = sum(file.size for file in files), 0

        def moved(count: int) -> None:
            nonlocal done
            done += count
            progress("sending", done, total)

        for file in {file.sha256: file for file in files}.values():
            upload_file(
                self.connection,
                team,
                folder / file.path,
                sha256=file.sha256,
                size=file.size,
                progress=moved,
                verified=lambda read, of: progress("checking", read, of),
            )

    def _publish(self, submission: "Submission", files: Sequence[FileEntry]) -> "Publication":
        return self._read(_publication, self._submit(submission, files, dry_run=False).document)

    def _submit(self, submission: "Submission", files: Sequence[FileEntry], *, dry_run: bool) -> "Answer":
        base = submission.base
        wanted = {
            "files": [asdict(file) for file in files],
            "base": asdict(base) if base else None,
            "message": submission.message,
            "metadata": dict(submission.metadata),
            "aliases": list(submission.aliases),
            "expected_head": submission.expected_head,
            "dry_run": dry_run,
        }
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        path = f"{adapter_path(submission.name)}/versions"
        return self.connection.request("POST", path, json=wanted, headers=headers)

    def pull(self, version: Version, to: Path, *, progress: "Progress" = _silent) -> "Pull":
        """Put a version's files at `to`, each verified against its sha256, the folder as a whole at once."""
        from cli.remote.downloads import download_file  # lazy: start-up time
        from registry.service.workfolder import renew  # lazy: start-up time

        def fill(folder: Path, missing: list[FileEntry]) -> int:
            total, done = sum(file.size for file in missing), 0

            def moved(count: int) -> None:
                nonlocal done
                done += count
                progress("pulling", done, total)

            return sum(
                download_file(
                    self.connection,
                    _file_path(version, file.path),
                    folder / file.sha256,
                    sha256=file.sha256,
                    size=file.size,
                    progress=moved,
                )
                for file in missing
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


class _ServersBases:
    """The bases of a server, for checking an adapter against them here."""

    def __init__(self, registry: Changes) -> None:
        self._registry = registry

    def find(self, name: str) -> BaseModel | None:
        if name.lower().startswith("sha256:"):
            with suppress(BaseNotFound):
                return self._registry.base(name)
        # What a configuration names can be anything, a path too: only the list takes every text.
        found = (base for base in self._registry.bases() if name.lower() in map(str.lower, base.names))
        return next(found, None)

    def index(self, fingerprint: str) -> "BaseIndex":
        return self._registry.index_of(fingerprint)


def _publication(found: Any) -> "Publication":
    from registry.service.publishing import Publication  # lazy: start-up time

    version = records.version(found["version"]) if found["version"] else None
    moves = tuple(map(records.move, found["moves"]))
    return Publication(str(found["commit"]), version, bool(found["created"]), moves, base=found["base"])


def _base_wanted(submission: "Submission", files: Sequence[FileEntry]) -> dict[str, Any]:
    return {
        "files": [asdict(file) for file in files],
        "base": submission.base.name if submission.base else None,
        "message": submission.message,
        "expected_head": submission.expected_head,
    }


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
