"""Blobs in an S3 bucket (AWS, Ceph RGW and whatever speaks like them), laid out as `store.py` draws it.

S3 has no rename and no digest that we could believe. So bytes go to a staging key that nobody else can write to, are
read back and hashed by us, and only then copied to their final key inside the server. boto3 is imported by the first
request, not by opening the store: looking a name up must not wait for it.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

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
from registry.blobs.parts import Parts, part_size_for
from registry.blobs.s3_parts import PartRelay
from registry.blobs.store import BlobStat, Ingested, StagedStat
from registry.blobs.transfer import ResumingStream, copy, upload
from registry.domain.digest import read_chunks
from registry.domain.errors import BlobNotFound, DigestMismatch, StorageFailure, UploadIncomplete, UploadNotFound

if TYPE_CHECKING:
    from registry.blobs.bucket import Bucket

READ_AHEAD = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class S3Location:
    """Where a store is: `prefix` without slashes around it; `public_endpoint_url` is how clients outside reach it."""

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    public_endpoint_url: str | None = None
    region: str | None = None


class S3Store:
    """A blob store in an existing bucket. The credentials are found the way boto3 does."""

    def __init__(self, location: S3Location) -> None:
        self.location = location
        root = f"{location.prefix}/" if location.prefix else ""
        self._blobs = f"{root}blobs/"
        self._staging = f"{root}staging/"

    def put(self, chunks: Iterable[bytes], *, sha256: str, size: int) -> bool:
        """Store a blob. When it is there in this size, the bytes are still consumed and verified, but not sent."""
        check_sha256(sha256)
        source = verified(chunks, sha256=sha256, size=size, subject="the pushed bytes")
        if self._has(sha256, size):
            exhaust(source)
            return False
        scratch = self._staging + new_upload_id("put")
        upload(self._bucket, scratch, source, size)
        subject = "what the store gave back of the pushed bytes"
        self._publish(scratch, sha256, size=size, subject=subject, new=True)
        return True

    def ingest(self, read: Callable[[], Iterable[bytes]]) -> Ingested:
        """Hash first, so that what is there already is not sent."""
        hashed = Hashed(read())
        exhaust(hashed)
        new = not self._has(hashed.sha256, hashed.size) and self.put(read(), sha256=hashed.sha256, size=hashed.size)
        return Ingested(hashed.sha256, hashed.size, new)

    def stage(self, upload_id: str, chunks: Iterable[bytes]) -> int:
        check_upload_id(upload_id)
        return upload(self._bucket, self._staging + upload_id, chunks, None)

    def complete(self, upload_id: str, *, sha256: str, size: int, watch: Watch = unwatched) -> bool:
        """Verify staged bytes and make them a blob.

        Others may still write to the upload's key, with a presigned URL. So a copy that nobody else can name is
        verified and published, not the upload itself.
        """
        check_upload_id(upload_id)
        check_sha256(sha256)
        upload, claimed = self._staging + upload_id, self._staging + new_upload_id("complete")
        found = self._bucket.head(upload)
        if found is None or not copy(self._bucket, upload, claimed, found.size):
            raise BlobNotFound(sha256)
        new = not self._has(sha256, size)
        try:
            self._publish(claimed, sha256, size=size, subject=f"upload {upload_id}", new=new, watch=watch)
        except DigestMismatch:
            self.discard(upload_id)
            raise
        self.discard(upload_id)
        return new

    def open_staged(self, upload_id: str, *, start: int = 0, length: int) -> AbstractContextManager[BinaryIO]:
        check_upload_id(upload_id)
        check_range(start, length)
        stream = self._read(self._staging + upload_id, start, length)
        if stream is None:
            raise UploadNotFound(upload_id)
        return stream

    def discard(self, upload_id: str) -> None:
        check_upload_id(upload_id)
        key = self._staging + upload_id
        self._bucket.delete(key)
        for pending in self._bucket.pending(key):
            if pending.key == key:
                self._bucket.abort(key, pending.id)

    def staged(self) -> Iterator[StagedStat]:
        """Staged objects, then unfinished multipart uploads; one id can be among both."""
        for item in self._bucket.objects(self._staging):
            upload_id = item.key.removeprefix(self._staging)
            if UPLOAD_ID.fullmatch(upload_id):
                yield StagedStat(upload_id, item.size, item.modified_at)
        for pending in self._bucket.pending(self._staging):
            upload_id = pending.key.removeprefix(self._staging)
            if UPLOAD_ID.fullmatch(upload_id):
                parts = self._bucket.parts(pending.key, pending.id) or {}
                yield StagedStat(upload_id, sum(part.size for part in parts.values()), pending.began_at)

    def begin_parts(self, upload_id: str, *, size: int) -> Parts:
        check_upload_id(upload_id)
        part_size = part_size_for(size)
        return Parts(upload_id, size, part_size, self._bucket.begin(self._staging + upload_id))

    def part_url(self, parts: Parts, number: int, *, seconds: int) -> str | None:
        """At the public endpoint, for a body of exactly the part's size."""
        size = parts.size_of(number)
        key = self._staged_key(parts)
        return self._public_bucket.presigned_part_url(key, parts.session, number=number, size=size, seconds=seconds)

    def open_part(self, parts: Parts, number: int) -> PartRelay:
        return PartRelay(self._bucket, self._staged_key(parts), parts, number=number)

    def list_parts(self, parts: Parts) -> dict[int, int] | None:
        key = self._staged_key(parts)
        there = self._bucket.parts(key, parts.session)
        if there is not None:
            return {number: part.size for number, part in there.items()}
        if self._is_joined(parts):
            return {number: parts.size_of(number) for number in range(1, parts.count + 1)}
        return None

    def finish_parts(self, parts: Parts) -> None:
        key = self._staged_key(parts)
        there = self._bucket.parts(key, parts.session)
        if there is None and self._is_joined(parts):
            return
        found = there or {}
        whole = [n for n in range(1, parts.count + 1) if n in found and found[n].size == parts.size_of(n)]
        if len(whole) < parts.count:
            raise UploadIncomplete(parts.upload_id, parts.count - len(whole), parts.count)
        self._bucket.finish(key, parts.session, [found[number].etag for number in whole], parts.size)

    def open(self, sha256: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        check_sha256(sha256)
        check_range(start, length)
        if length == 0:  # S3 has no range of nothing
            if self.stat(sha256) is None:
                raise BlobNotFound(sha256)
            return io.BytesIO()
        stream = self._read(self._key(sha256), start, length)
        if stream is None:
            raise BlobNotFound(sha256)
        return stream

    def stat(self, sha256: str) -> BlobStat | None:
        check_sha256(sha256)
        found = self._bucket.head(self._key(sha256))
        return BlobStat(sha256, found.size, found.modified_at) if found else None

    def delete(self, sha256: str) -> bool:
        check_sha256(sha256)
        key = self._key(sha256)
        there = self._bucket.head(key) is not None
        if there:
            self._bucket.delete(key)
        return there

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        check_prefix(prefix)
        keys = self._blobs + (f"{prefix[:2]}/{prefix}" if len(prefix) >= 2 else prefix)
        return self._list(keys)

    def presigned_url(self, sha256: str, *, seconds: int) -> str:
        """A URL at the public endpoint that reads a blob for so long without credentials. Never log it."""
        check_sha256(sha256)
        return self._public_bucket.presigned_url(self._key(sha256), seconds)

    def _staged_key(self, parts: Parts) -> str:
        check_upload_id(parts.upload_id)
        return self._staging + parts.upload_id

    def _is_joined(self, parts: Parts) -> bool:
        found = self._bucket.head(self._staged_key(parts))
        return found is not None and found.size == parts.size

    def _list(self, keys: str) -> Iterator[BlobStat]:
        for item in self._bucket.objects(keys):
            sha256 = item.key.rpartition("/")[2]
            if SHA256.fullmatch(sha256) and item.key == self._key(sha256):
                yield BlobStat(sha256, item.size, item.modified_at)

    def _key(self, sha256: str) -> str:
        return f"{self._blobs}{sha256[:2]}/{sha256}"

    def _has(self, sha256: str, size: int) -> bool:
        found = self._bucket.head(self._key(sha256))
        return found is not None and found.size == size

    def _read(self, key: str, start: int, length: int | None) -> BinaryIO | None:
        answer = self._bucket.get(key, start, length)
        if answer is None:
            return None
        return io.BufferedReader(ResumingStream(self._bucket, key, answer, start), READ_AHEAD)

    def _publish(
        self, private: str, sha256: str, *, size: int, subject: str, new: bool, watch: Watch = unwatched
    ) -> None:
        """Verify a staged object that only this call writes to, copy it to its final key if `new`, and drop it."""
        try:
            self._verify(private, sha256, size=size, subject=subject, watch=watch)
            if new:
                copy(self._bucket, private, self._key(sha256), size)
                self._bucket.expect(self._key(sha256), size)
        finally:
            with suppress(StorageFailure):  # what can't be dropped now is listed by `staged`
                self._bucket.delete(private)

    def _verify(self, key: str, sha256: str, *, size: int, subject: str, watch: Watch) -> None:
        stream = self._read(key, 0, None)
        if stream is None:
            raise StorageFailure(f"s3://{self.location.bucket}/{key} was written, and is not there")
        with stream:
            exhaust(verified(read_chunks(stream), sha256=sha256, size=size, subject=subject, watch=watch))

    @cached_property
    def _bucket(self) -> "Bucket":
        return self._connect(self.location.endpoint_url)

    @cached_property
    def _public_bucket(self) -> "Bucket":
        return self._connect(self.location.public_endpoint_url or self.location.endpoint_url)

    def _connect(self, endpoint_url: str | None) -> "Bucket":
        from registry.blobs.bucket import Bucket, connect  # lazy: start-up time

        return Bucket(self.location.bucket, connect(endpoint_url, self.location.region))
