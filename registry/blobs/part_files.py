"""The parts of one upload in a folder: each is written at its place in one file, by many processes at once.

    staging/<upload id>.parts/data                the upload's bytes, as far as they have come
    staging/<upload id>.parts/<number>-<bytes>    an empty file: this part is in `data`, and on the disk

Writers share a lock of `data`, joining has it alone. So nobody can still write to bytes that are being verified or
have become a blob, and the kernel lets go of the lock of whoever is killed.
"""

import fcntl
import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from registry.blobs.disk import FILE_MODE, make_folder, storage_failure, sync_folder
from registry.blobs.parts import Counted, Parts
from registry.domain.errors import UploadBusy, UploadIncomplete

SUFFIX = ".parts"
_DATA = "data"
_MARK = re.compile(r"([1-9][0-9]{0,9})-([0-9]{1,15})", re.ASCII)
_PATIENCE = 10.0  # seconds that joining waits for writers
_PAUSE = 0.02  # seconds


def folder_of(staging: Path, upload_id: str) -> Path:
    """Where the parts of an upload are."""
    return staging / f"{upload_id}{SUFFIX}"


def marked(folder: Path) -> dict[int, int]:
    """Number and bytes of the parts that are there."""
    with storage_failure("listing", folder):
        try:
            found = [_MARK.fullmatch(path.name) for path in folder.iterdir()]
        except FileNotFoundError:
            return {}
    return {int(mark[1]): int(mark[2]) for mark in found if mark}


def remove(folder: Path) -> None:
    """Forget all parts of an upload."""
    with storage_failure("discarding", folder), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def join(folder: Path, parts: Parts, staged: Path) -> None:
    """Make the file that the parts were written to the staged file. Raises UploadIncomplete, UploadBusy."""
    data = folder / _DATA
    with storage_failure("joining", folder, but=FileNotFoundError):
        try:
            descriptor = os.open(data, os.O_WRONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if staged.is_file():
                return
            raise UploadIncomplete(parts.upload_id, parts.count, parts.count) from None
        try:
            _lock_alone(descriptor, parts.upload_id)
            _check_complete(folder, parts)
            os.fsync(descriptor)
            data.rename(staged)
        except FileNotFoundError:  # somebody joined them while we waited for the lock
            raise UploadBusy(parts.upload_id) from None
        finally:
            os.close(descriptor)
        sync_folder(staged.parent)
    remove(folder)


def _lock_alone(descriptor: int, upload_id: str) -> None:
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise UploadBusy(upload_id) from None
            time.sleep(_PAUSE)


def _check_complete(folder: Path, parts: Parts) -> None:
    there = marked(folder)
    missing = sum(there.get(number) != parts.size_of(number) for number in range(1, parts.count + 1))
    if missing:
        raise UploadIncomplete(parts.upload_id, missing, parts.count)


class PartFile:
    """One part on its way into `data`."""

    def __init__(self, folder: Path, parts: Parts, number: int) -> None:
        self._counted = Counted(parts, number)
        self._offset = parts.offset_of(number)
        self._mark = folder / f"{number}-{self._counted.expected}"
        with storage_failure("writing", folder):
            make_folder(folder)
            self._descriptor = os.open(folder / _DATA, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, FILE_MODE)
            try:
                self._lock(folder / _DATA, parts.upload_id)
                self._mark.unlink(missing_ok=True)
            except BaseException:
                os.close(self._descriptor)
                raise

    def write(self, data: bytes) -> None:
        at = self._offset + self._counted.found
        self._counted.add(len(data))
        rest = memoryview(data)
        with storage_failure("writing", self._mark.parent):
            while rest:
                written = os.pwrite(self._descriptor, rest, at)
                rest, at = rest[written:], at + written

    def finish(self) -> None:
        self._counted.check()
        with storage_failure("writing", self._mark.parent):
            os.fdatasync(self._descriptor)
            self._mark.touch(FILE_MODE)

    def close(self) -> None:
        os.close(self._descriptor)

    def _lock(self, data: Path, upload_id: str) -> None:
        """Share the file with other writers, if it still is the one that the parts are in."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            same = os.path.samestat(os.fstat(self._descriptor), data.lstat())
        except (BlockingIOError, FileNotFoundError):
            same = False
        if not same:
            raise UploadBusy(upload_id)
