"""Blobs in this process's memory, for tests and for embedding. Nothing survives the process."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import BinaryIO

from registry.blobs.checks import (
    Hashed,
    Watch,
    check_prefix,
    check_range,
    check_sha256,
    check_upload_id,
    exhaust,
    unwatched,
    verified,
)
from registry.blobs.parts import Counted, Parts, part_size_for
from registry.blobs.store import BlobStat, Ingested, StagedStat
from registry.domain.errors import BlobNotFound, DigestMismatch, UploadIncomplete, UploadNotFound


@dataclass(frozen=True, slots=True)
class _Held:
    data: bytes
    modified_at: datetime


class MemoryStore:
    """A blob store of dictionaries."""

    def __init__(self) -> None:
        self._blobs: dict[str, _Held] = {}
        self._staging: dict[str, _Held] = {}
        self._parts: dict[str, dict[int, _Held]] = {}
        self._lock = Lock()

    def put(self, chunks: Iterable[bytes], *, sha256: str, size: int) -> bool:
        check_sha256(sha256)
        return self._keep(sha256, b"".join(verified(chunks, sha256=sha256, size=size, subject="the pushed bytes")))

    def ingest(self, read: Callable[[], Iterable[bytes]]) -> Ingested:
        hashed = Hashed(read())
        data = b"".join(hashed)
        return Ingested(hashed.sha256, hashed.size, self._keep(hashed.sha256, data))

    def stage(self, upload_id: str, chunks: Iterable[bytes]) -> int:
        check_upload_id(upload_id)
        held = _Held(b"".join(chunks), datetime.now(UTC))
        with self._lock:
            self._staging[upload_id] = held
        return len(held.data)

    def complete(self, upload_id: str, *, sha256: str, size: int, watch: Watch = unwatched) -> bool:
        check_upload_id(upload_id)
        check_sha256(sha256)
        with self._lock:
            held = self._staging.get(upload_id)
        if held is None:
            raise BlobNotFound(sha256)
        try:
            exhaust(verified([held.data], sha256=sha256, size=size, subject=f"upload {upload_id}", watch=watch))
        except DigestMismatch:
            self._forget(upload_id, held)
            raise
        new = self._keep(sha256, held.data)
        self._forget(upload_id, held)
        return new

    def open_staged(self, upload_id: str, *, start: int = 0, length: int) -> AbstractContextManager[BinaryIO]:
        check_upload_id(upload_id)
        check_range(start, length)
        held = self._staging.get(upload_id)
        if held is None:
            raise UploadNotFound(upload_id)
        return io.BytesIO(held.data[start : start + length])

    def discard(self, upload_id: str) -> None:
        check_upload_id(upload_id)
        with self._lock:
            self._staging.pop(upload_id, None)
            self._parts.pop(upload_id, None)

    def staged(self) -> Iterator[StagedStat]:
        with self._lock:
            staging = sorted(self._staging.items())
            parts = sorted((upload_id, list(held.values())) for upload_id, held in self._parts.items() if held)
        for upload_id, held in staging:
            yield StagedStat(upload_id, len(held.data), held.modified_at)
        for upload_id, pieces in parts:
            newest = max(piece.modified_at for piece in pieces)
            yield StagedStat(upload_id, sum(len(piece.data) for piece in pieces), newest)

    def begin_parts(self, upload_id: str, *, size: int) -> Parts:
        check_upload_id(upload_id)
        return Parts(upload_id, size, part_size_for(size))

    def part_url(self, parts: Parts, number: int, *, seconds: int) -> str | None:
        parts.offset_of(number)
        return None

    def open_part(self, parts: Parts, number: int) -> "_PartBuffer":
        return _PartBuffer(self, parts, number)

    def list_parts(self, parts: Parts) -> dict[int, int] | None:
        with self._lock:
            if parts.upload_id in self._staging:
                return {number: parts.size_of(number) for number in range(1, parts.count + 1)}
            return {number: len(held.data) for number, held in self._parts.get(parts.upload_id, {}).items()}

    def finish_parts(self, parts: Parts) -> None:
        with self._lock:
            if parts.upload_id in self._staging:
                return
            there = self._parts.get(parts.upload_id, {})
            if len(there) < parts.count:
                raise UploadIncomplete(parts.upload_id, parts.count - len(there), parts.count)
            data = b"".join(there[number].data for number in sorted(there))
            self._staging[parts.upload_id] = _Held(data, datetime.now(UTC))
            del self._parts[parts.upload_id]

    def keep_part(self, parts: Parts, number: int, data: bytes) -> None:
        """What a finished part's writer leaves."""
        with self._lock:
            self._parts.setdefault(parts.upload_id, {})[number] = _Held(data, datetime.now(UTC))

    def presigned_url(self, sha256: str, *, seconds: int) -> str | None:
        check_sha256(sha256)
        return None

    def open(self, sha256: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        check_sha256(sha256)
        check_range(start, length)
        held = self._blobs.get(sha256)
        if held is None:
            raise BlobNotFound(sha256)
        return io.BytesIO(held.data[start : None if length is None else start + length])

    def stat(self, sha256: str) -> BlobStat | None:
        check_sha256(sha256)
        held = self._blobs.get(sha256)
        return BlobStat(sha256, len(held.data), held.modified_at) if held else None

    def delete(self, sha256: str) -> bool:
        check_sha256(sha256)
        with self._lock:
            return self._blobs.pop(sha256, None) is not None

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        check_prefix(prefix)
        with self._lock:
            held = sorted((name, held) for name, held in self._blobs.items() if name.startswith(prefix))
        return (BlobStat(name, len(blob.data), blob.modified_at) for name, blob in held)

    def _keep(self, sha256: str, data: bytes) -> bool:
        with self._lock:
            new = sha256 not in self._blobs
            self._blobs[sha256] = _Held(data, datetime.now(UTC))
        return new

    def _forget(self, upload_id: str, held: _Held) -> None:
        """Drop an upload, unless somebody replaced it meanwhile."""
        with self._lock:
            if self._staging.get(upload_id) is held:
                del self._staging[upload_id]


class _PartBuffer:
    """One part on its way in."""

    def __init__(self, store: MemoryStore, parts: Parts, number: int) -> None:
        self._store = store
        self._parts = parts
        self._number = number
        self._counted = Counted(parts, number)
        self._buffer = io.BytesIO()

    def write(self, data: bytes) -> None:
        self._counted.add(len(data))
        self._buffer.write(data)

    def finish(self) -> None:
        self._counted.check()
        self._store.keep_part(self._parts, self._number, self._buffer.getvalue())

    def close(self) -> None:
        self._buffer.close()
