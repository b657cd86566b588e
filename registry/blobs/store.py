"""The blob store: immutable bytes by sha256, and a staging area for bytes on their way in.

The bucket (or folder), seen from its root:

    blobs/<first 2 hex>/<64 hex>      a blob; written once, by an atomic rename or a conditional copy, never changed
    staging/<upload id>               bytes in flight; nothing here is ever read as a blob
    staging/<upload id>.parts/        in a folder: an upload in parts (part_files.py); S3 keeps those by itself

A blob appears under its final name only after its size and sha256 were verified by us, so that a name is a promise.
The store knows no namespaces, versions or references; who may refer to a blob is the catalog's business.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from registry.blobs.checks import Watch, unwatched
from registry.blobs.parts import PartStore


@dataclass(frozen=True, slots=True)
class BlobStat:
    """What the store has under a name. `size` in bytes, `modified_at` in UTC, on S3 in whole seconds."""

    sha256: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class StagedStat:
    """An upload in flight."""

    upload_id: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Ingested:
    """Bytes that were stored by `ingest`: what they turned out to be, and whether the blob is new."""

    sha256: str
    size: int
    new: bool


class BlobStore(PartStore, Protocol):
    """What every store promises; `tests/contracts/test_blob_store.py` holds each to it.

    Reads and writes stream: no method holds more than a few MiB of a blob. Failures of the store itself raise
    StorageFailure, what is no digest, upload id or range raises WrongUsage, and what a stream of chunks raises passes
    through; nothing is half done after any error.
    """

    def put(self, chunks: Iterable[bytes], *, sha256: str, size: int) -> bool:
        """Store a blob; True if it was not there before. Identical content written twice, or at once, is one blob.

        The chunks are consumed and verified also when the blob is there: having it pushed proves possession.

        Raises DigestMismatch when the bytes are not `size` bytes of digest `sha256`; then nothing is kept.
        """

    def ingest(self, read: Callable[[], Iterable[bytes]]) -> Ingested:
        """Store bytes whose digest nobody knows yet.

        Every call of `read` gives the same bytes from their beginning; a store that bytes are sent to over a network
        reads twice, to send nothing that it has. Raises DigestMismatch if the bytes changed in between.
        """

    def stage(self, upload_id: str, chunks: Iterable[bytes]) -> int:
        """Write bytes to staging under an id of [a-z0-9-]{1,64}, replacing what was there; returns the size."""

    def complete(self, upload_id: str, *, sha256: str, size: int, watch: Watch = unwatched) -> bool:
        """Verify staged bytes by reading them, make them a blob, and clear the staging; True if the blob is new.

        `watch` is told of the whole size once the bytes are verified and before they are a blob. What it raises ends
        it, and the bytes stay staged.

        Raises DigestMismatch (the staged bytes are then discarded), BlobNotFound if nothing is staged, whether the
        blob is there or not: who uploaded nothing has proved no possession.
        """

    def open_staged(self, upload_id: str, *, start: int = 0, length: int) -> AbstractContextManager[BinaryIO]:
        """Read `length` staged bytes (above 0) from `start`, as a stream; fewer if they end before.

        Raises UploadNotFound if nothing is staged under the id. The stream is not verified.
        """

    def discard(self, upload_id: str) -> None:
        """Forget staged bytes, and parts; nothing happens if there are none."""

    def staged(self) -> Iterator[StagedStat]:
        """Everything in the staging area, parts included; one id can be there as parts and joined."""

    def open(self, sha256: str, *, start: int = 0, length: int | None = None) -> AbstractContextManager[BinaryIO]:
        """Read a blob, or `length` bytes of it from `start`, as a stream. Raises BlobNotFound.

        The stream is not verified here: whoever keeps what it reads verifies it.
        """

    def presigned_url(self, sha256: str, *, seconds: int) -> str | None:
        """A URL that reads a blob for so long without credentials, or None where there are no such. Never log it."""

    def stat(self, sha256: str) -> BlobStat | None:
        """Size and age of a blob, or None."""

    def delete(self, sha256: str) -> bool:
        """Remove a blob; False if it was not there."""

    def list(self, prefix: str = "") -> Iterator[BlobStat]:
        """Every blob whose digest begins with `prefix`, in digest order, as a stream."""
