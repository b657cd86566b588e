"""One S3 bucket through boto3: single requests, their retries, and their errors in our words.

Knows keys, not blobs. Checksum headers and ETags say nothing here: servers leave them empty, or accept wrong ones.
"""

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import IO, TYPE_CHECKING, TypedDict

import boto3
import botocore.loaders
import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.response import StreamingBody

from registry.blobs.s3_errors import ABSENT, BROKEN_STREAM, OUTSIDE, code_of, s3_errors
from registry.domain.errors import StorageFailure

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

CONNECT_TIMEOUT = 10  # seconds
READ_TIMEOUT = 60  # seconds without a byte
ATTEMPTS = 5
CONNECTIONS = 16
PAGE = 1000  # of a list; S3 gives no more at once


class _Range(TypedDict, total=False):
    Range: str


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """`modified_at` in UTC and whole seconds: all that a HEAD tells, while a list can tell more."""

    key: str
    size: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted."""

    key: str
    id: str
    began_at: datetime


@dataclass(frozen=True, slots=True)
class ArrivedPart:
    """A part of a multipart upload: its bytes, and the ETag that S3 wants back, which says nothing."""

    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes of an object on their way: `size` of them, says the server."""

    body: StreamingBody
    size: int

    def read(self, count: int) -> bytes:
        """Some of the next bytes; none at the end, and none when the connection broke."""
        try:
            return self.body.read(count)
        except BROKEN_STREAM:
            return b""

    def close(self) -> None:
        self.body.close()


def connect(endpoint_url: str | None, region: str | None) -> "S3Client":
    """A client with boto3's own search for credentials. Nothing is sent yet."""
    described = botocore.session.Session()
    described.register_component("data_loader", _descriptions())
    session = boto3.session.Session(botocore_session=described)
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        max_pool_connections=CONNECTIONS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        request_checksum_calculation="when_required",  # its trailers are unknown to older servers
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    region = region or session.region_name or "us-east-1"
    with s3_errors("connecting", endpoint_url or "S3"):
        return session.client("s3", endpoint_url=endpoint_url, region_name=region, config=config)


@cache
def _descriptions() -> botocore.loaders.Loader:
    """botocore's descriptions of S3: read once a process, they are most of what a client costs."""
    return botocore.loaders.Loader()


def _in_seconds(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(microsecond=0)


class Bucket:
    """Requests on one bucket; thread-safe, as boto3's clients are."""

    def __init__(self, name: str, client: "S3Client") -> None:
        self.name = name
        self._client = client
        self._seen = False

    def head(self, key: str) -> ObjectStat | None:
        with self._errors("looking at", key):
            try:
                answer = self._client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise
                self._see()
                return None
        return ObjectStat(key, answer["ContentLength"], _in_seconds(answer["LastModified"]))

    def put(self, key: str, data: bytes) -> None:
        with self._errors("writing", key):
            self._client.put_object(Bucket=self.name, Key=key, Body=data)

    def get(self, key: str, start: int, length: int | None) -> Answer | None:
        """Ask for an object, or for `length` bytes of it (above 0) from `start`. None if there is no such object."""
        last = "" if length is None else start + length - 1
        wanted: _Range = {} if start == 0 and length is None else {"Range": f"bytes={start}-{last}"}
        with self._errors("reading", key):
            try:
                answer = self._client.get_object(Bucket=self.name, Key=key, **wanted)
            except ClientError as error:
                if code_of(error) in OUTSIDE:
                    return Answer(StreamingBody(io.BytesIO(), 0), 0)
                if code_of(error) not in ABSENT:
                    raise
                return None
        if wanted and not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
            answer["Body"].close()
            raise StorageFailure(f"reading s3://{self.name}/{key}: the server ignored the range")
        return Answer(answer["Body"], answer["ContentLength"])

    def delete(self, key: str) -> None:
        with self._errors("deleting", key):
            self._client.delete_object(Bucket=self.name, Key=key)

    def objects(self, prefix: str) -> Iterator[ObjectStat]:
        """Every object whose key begins so, in key order, a page at a time."""
        with self._errors("listing", prefix):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=prefix, PaginationConfig={"PageSize": PAGE}
            )
            for page in pages:
                for item in page.get("Contents", []):
                    yield ObjectStat(item["Key"], item["Size"], _in_seconds(item["LastModified"]))

    def copy(self, source: str, target: str) -> bool:
        """Copy up to 5 GiB inside the server; False if there is no source."""
        with self._errors("copying", source):
            try:
                self._client.copy_object(Bucket=self.name, Key=target, CopySource={"Bucket": self.name, "Key": source})
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise
                return False
        return True

    def begin(self, key: str) -> str:
        """Begin a multipart upload; returns its id."""
        with self._errors("writing", key):
            return self._client.create_multipart_upload(Bucket=self.name, Key=key)["UploadId"]

    def put_part(self, key: str, upload: str, number: int, data: bytes | IO[bytes]) -> str:
        """Send a part, or a seekable file that is one; returns its ETag."""
        with self._errors("writing", key):
            answer = self._client.upload_part(Bucket=self.name, Key=key, UploadId=upload, PartNumber=number, Body=data)
        return answer["ETag"]

    def copy_part(self, source: str, key: str, *, upload: str, number: int, first: int, last: int) -> str:
        """Copy bytes `first` to `last`, both included, of an object as a part; returns the part's ETag."""
        with self._errors("copying", source):
            answer = self._client.upload_part_copy(
                Bucket=self.name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                CopySource={"Bucket": self.name, "Key": source},
                CopySourceRange=f"bytes={first}-{last}",
            )
        return answer["CopyPartResult"]["ETag"]

    def finish(self, key: str, upload: str, etags: list[str], size: int) -> None:
        """Complete a multipart upload of `size` bytes, and look whether it is there: the answer itself can be empty."""
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)
        ]
        with self._errors("writing", key):
            try:
                self._client.complete_multipart_upload(
                    Bucket=self.name, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}
                )
            except ClientError as error:
                if (
                    code_of(error) not in ABSENT
                ):  # a repeated request whose first answer was lost finds no upload any more
                    raise
        self.expect(key, size)

    def expect(self, key: str, size: int) -> None:
        """Raises StorageFailure unless the object is there in this size."""
        found = self.head(key)
        if found is None or found.size != size:
            there = "nothing" if found is None else f"{found.size} bytes"
            raise StorageFailure(f"s3://{self.name}/{key}: {size} bytes were written and {there} arrived")

    def abort(self, key: str, upload: str) -> None:
        with self._errors("aborting the upload of", key):
            try:
                self._client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=upload)
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise

    def pending(self, prefix: str) -> Iterator[PendingUpload]:
        """Every unfinished multipart upload to a key that begins so."""
        with self._errors("listing uploads of", prefix):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix)
            for page in pages:
                for item in page.get("Uploads", []):
                    if item["Key"].startswith(prefix):
                        yield PendingUpload(item["Key"], item["UploadId"], _in_seconds(item["Initiated"]))

    def parts(self, key: str, upload: str) -> dict[int, ArrivedPart] | None:
        """The parts of a multipart upload that have arrived; None if there is no such upload (any more)."""
        with self._errors("listing parts of", key):
            pages = self._client.get_paginator("list_parts").paginate(Bucket=self.name, Key=key, UploadId=upload)
            try:
                found = [part for page in pages for part in page.get("Parts", [])]
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise
                return None
        return {part["PartNumber"]: ArrivedPart(part["Size"], part["ETag"]) for part in found}

    def presigned_url(self, key: str, seconds: int) -> str:
        """A URL that reads the object for so long, without credentials."""
        with self._errors("signing", key):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self.name, "Key": key}, ExpiresIn=seconds
            )

    def presigned_part_url(self, key: str, upload: str, *, number: int, size: int, seconds: int) -> str:
        """A URL that takes a part of exactly `size` bytes by PUT for so long, without credentials."""
        named = {"Bucket": self.name, "Key": key, "UploadId": upload, "PartNumber": number, "ContentLength": size}
        with self._errors("signing", key):
            return self._client.generate_presigned_url("upload_part", Params=named, ExpiresIn=seconds)

    def _see(self) -> None:
        """Look for the bucket once: a HEAD on an object can't tell an absent key from an absent bucket."""
        if not self._seen:
            try:
                self._client.head_bucket(Bucket=self.name)
            except ClientError as error:
                if code_of(error) not in ABSENT:
                    raise
                raise StorageFailure(f"there is no bucket {self.name!r}") from None
            self._seen = True

    def _errors(self, doing: str, key: str) -> AbstractContextManager[None]:
        return s3_errors(doing, f"s3://{self.name}/{key}")
