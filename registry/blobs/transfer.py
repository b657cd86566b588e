"""Bytes of any size to and from a bucket in bounded memory: multipart uploads and copies, reads that resume.

S3 takes at most 10,000 parts, of 5 MiB to 5 GiB each but for the last, and copies at most 5 GiB in one request.
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from registry.domain.errors import StorageFailure

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from registry.blobs.bucket import Answer, Bucket

MIB = 1 << 20
PARTS = 10_000
PART = 8 * MIB
PART_OF_UNKNOWN = 16 * MIB  # for streams whose size nobody said: up to 156 GiB
IN_MEMORY = 48 * MIB  # parts in flight and the one being filled
WORKERS = 4
COPY_AT_ONCE = 1024 * MIB  # longer copies go in parts, so that none outlasts the read timeout
COPY_PART = 512 * MIB
RESUMPTIONS = 5  # in a row, without this much progress between them:
PROGRESS = MIB
PAUSE = 0.02  # seconds, doubled each time


def part_size(size: int | None) -> int:
    """Bytes of a part, so that `size` bytes are at most 10,000 parts."""
    if size is None:
        return PART_OF_UNKNOWN
    return max(PART, -(-size // (PARTS * MIB)) * MIB)


def in_parts(chunks: Iterable[bytes], part: int) -> Iterator[bytes]:
    """Cut and join chunks to pieces of exactly `part` bytes; the last one is shorter, and not empty."""
    filling = io.BytesIO()
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            room = part - filling.tell()
            filling.write(rest[:room])
            rest = rest[room:]
            if filling.tell() == part:
                full, filling = filling.getvalue(), io.BytesIO()
                yield full
    if filling.tell():
        yield filling.getvalue()


def upload(bucket: "Bucket", key: str, chunks: Iterable[bytes], size: int | None) -> int:
    """Write a stream to a key; returns its size in bytes. After any error, the stream's own included, nothing is there.

    `size` is what the stream is thought to have. Less than a part goes in one request.
    """
    part = part_size(size)
    pieces = in_parts(chunks, part)
    first = next(pieces, b"")
    if len(first) < part:
        bucket.put(key, first)
        return len(first)
    with Multipart(bucket, key, workers=max(1, min(WORKERS, IN_MEMORY // part - 1))) as parts:
        parts.put(first)
        del first
        for piece in pieces:
            parts.put(piece)
        return parts.finish()


def copy(bucket: "Bucket", source: str, target: str, size: int) -> bool:
    """Copy an object of `size` bytes inside the server; False if there is no source."""
    if size <= COPY_AT_ONCE:
        return bucket.copy(source, target)
    with Multipart(bucket, target, workers=WORKERS) as parts:
        for first in range(0, size, COPY_PART):
            parts.copy(source, first, min(first + COPY_PART, size) - 1)
        parts.finish()
    return True


class Multipart:
    """A multipart upload whose parts travel in parallel; left without `finish`, it is aborted."""

    def __init__(self, bucket: "Bucket", key: str, workers: int) -> None:
        self._bucket = bucket
        self._key = key
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="blob-parts")
        self._pending: deque[Future[str]] = deque()
        self._etags: list[str] = []
        self._size = 0

    def __enter__(self) -> Self:
        self._upload = self._bucket.begin(self._key)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(cancel_futures=True)
        if error is not None:
            with suppress(StorageFailure):  # the first error counts; what stays is listed by `pending`
                self._bucket.abort(self._key, self._upload)

    def put(self, data: bytes) -> None:
        number = self._next(len(data))
        self._submit(lambda: self._bucket.put_part(self._key, self._upload, number, data))

    def copy(self, source: str, first: int, last: int) -> None:
        number = self._next(last - first + 1)
        self._submit(
            lambda: self._bucket.copy_part(
                source, self._key, upload=self._upload, number=number, first=first, last=last
            )
        )

    def finish(self) -> int:
        """Wait for the parts and make them the object; returns its size in bytes."""
        while self._pending:
            self._settle()
        self._bucket.finish(self._key, self._upload, self._etags, self._size)
        return self._size

    def _next(self, size: int) -> int:
        number = len(self._etags) + len(self._pending) + 1
        if number > PARTS:
            raise StorageFailure(f"an upload has at most {PARTS:,} parts, and this one would have more")
        self._size += size
        return number

    def _submit(self, send: Callable[[], str]) -> None:
        if len(self._pending) == self._workers:
            self._settle()
        self._pending.append(self._threads.submit(send))

    def _settle(self) -> None:
        self._etags.append(self._pending.popleft().result())


class ResumingStream(io.RawIOBase):
    """An answer that begins at `start`. Where the connection breaks, or ends too early, the rest is asked for again."""

    def __init__(self, bucket: "Bucket", key: str, answer: "Answer", start: int) -> None:
        self._bucket = bucket
        self._key = key
        self._answer = answer
        self._position = start
        self._left = answer.size
        self._broken = 0
        self._progress = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        wanted = memoryview(buffer)[: self._left]
        if not wanted:
            return 0
        while not (data := self._answer.read(len(wanted))):
            self._resume()
        wanted[: len(data)] = data
        self._advance(len(data))
        return len(data)

    def close(self) -> None:
        self._answer.close()
        super().close()

    def _advance(self, count: int) -> None:
        self._position += count
        self._left -= count
        self._progress += count
        if self._progress >= PROGRESS:
            self._broken = 0

    def _resume(self) -> None:
        self._answer.close()
        self._broken += 1
        self._progress = 0
        if self._broken > RESUMPTIONS:
            raise StorageFailure(f"reading s3://{self._bucket.name}/{self._key}: the connection keeps breaking")
        time.sleep(PAUSE * 2**self._broken)
        answer = self._bucket.get(self._key, self._position, self._left)
        if answer is None or answer.size != self._left:
            raise StorageFailure(f"s3://{self._bucket.name}/{self._key} changed while it was read")
        self._answer = answer
