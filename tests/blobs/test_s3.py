"""The S3 store's own: multipart uploads and copies, presigned reads, and what bad servers and networks do to it."""

import hashlib
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.blobs import bucket, transfer
from registry.blobs.locate import open_store
from registry.blobs.s3 import S3Location, S3Store
from registry.blobs.transfer import MIB, PARTS, in_parts, part_size
from registry.domain.errors import BlobNotFound, DigestMismatch, StorageFailure
from tests.blobs import faulty_proxy as faults
from tests.blobs.faulty_proxy import Answer, FaultyProxy, Request, Server

SMALL = b"a few bytes"
LARGE = bytes(range(256)) * (12 * MIB // 256)  # two parts

MOVE_MUCH = """
import hashlib, resource, sys
from registry.blobs.locate import open_store
from registry.domain.digest import sha256_stream
store, count = open_store(sys.argv[1]), int(sys.argv[2])
chunks = lambda: (bytes([number % 256]) * (1 << 20) for number in range(count))
digest = hashlib.sha256()
for chunk in chunks():
    digest.update(chunk)
sha256 = digest.hexdigest()
store.put([b"x"], sha256=hashlib.sha256(b"x").hexdigest(), size=1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.put(chunks(), sha256=sha256, size=count << 20)
with store.open(sha256) as stream:
    assert sha256_stream(stream) == (sha256, count << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(store: S3Store, data: bytes) -> str:
    store.put([data], sha256=digest_of(data), size=len(data))
    return digest_of(data)


def read(store: S3Store, sha256: str) -> bytes:
    with store.open(sha256) as stream:
        return stream.read()


# -- on a good server -------------------------------------------------------------------------------------------------


def test_an_unfinished_multipart_upload_is_seen_in_staging_and_discarded(store: S3Store) -> None:
    key = f"{store.location.prefix}/staging/upload-1"
    inside = store._bucket
    upload = inside.begin(key)
    inside.put_part(key, upload, 1, bytes(5 * MIB))
    inside.put_part(key, upload, 2, b"end")
    inside.begin(key + "0")
    found = {staged.upload_id: staged.size for staged in store.staged()}
    assert found == {"upload-1": 5 * MIB + 3, "upload-10": 0}
    with pytest.raises(BlobNotFound):
        store.complete("upload-1", sha256=digest_of(b""), size=0)
    store.discard("upload-1")
    assert [staged.upload_id for staged in store.staged()] == ["upload-10"]


def test_a_blob_too_long_for_one_copy_is_copied_in_parts(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "COPY_AT_ONCE", 6 * MIB)
    monkeypatch.setattr(transfer, "COPY_PART", 5 * MIB)
    sha256 = put(store, LARGE)
    assert read(store, sha256) == LARGE
    assert list(store.staged()) == []


def test_a_presigned_url_reads_one_blob_without_credentials(store: S3Store) -> None:
    url = store.presigned_url(put(store, SMALL), seconds=60)
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == SMALL


@pytest.mark.ceph
def test_a_presigned_url_of_one_blob_does_not_read_another(ceph_store_url: str) -> None:
    store = open_store(ceph_store_url)
    assert isinstance(store, S3Store)
    one, other = put(store, SMALL), put(store, b"private")
    url = store.presigned_url(one, seconds=60).replace(one[:2] + "/" + one, other[:2] + "/" + other)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)


@pytest.mark.ceph
@pytest.mark.parametrize("length", [9, 11])
def test_a_url_of_a_part_takes_no_other_length(ceph_store_url: str, length: int) -> None:
    store = open_store(ceph_store_url)
    parts = store.begin_parts("upload-1", size=10)
    url = store.part_url(parts, 1, seconds=60)
    assert url is not None
    request = urllib.request.Request(url, data=b"x" * length, method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(request)
    assert store.list_parts(parts) == {}


def test_a_presigned_url_is_at_the_public_endpoint(s3_endpoint: str) -> None:
    location = S3Location("bucket", "", s3_endpoint, "https://s3.example.org:8443")
    url = urlsplit(S3Store(location).presigned_url("a" * 64, seconds=60))
    assert (url.scheme, url.netloc, url.path) == ("https", "s3.example.org:8443", f"/bucket/blobs/aa/{'a' * 64}")


def test_foreign_objects_are_not_listed(store: S3Store) -> None:
    sha256 = put(store, SMALL)
    prefix = store.location.prefix
    for key in ("blobs/README", f"blobs/aa/{'b' * 64}", "staging/Not-An-Upload", "staging/a/b"):
        store._bucket.put(f"{prefix}/{key}", b"foreign")
    assert [blob.sha256 for blob in store.list()] == [sha256]
    assert list(store.staged()) == []


def test_a_list_goes_on_after_its_first_page(store: S3Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "PAGE", 3)
    names = [f"{number:064x}" for number in range(8)]
    for name in names:
        store._bucket.put(store._key(name), b"")
        store.stage(name, [])
    assert [blob.sha256 for blob in store.list()] == names
    assert sorted(staged.upload_id for staged in store.staged()) == names


def test_much_is_moved_in_and_out_within_64_mib_of_memory(s3_store_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MOVE_MUCH, s3_store_url, "96"], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) < 64 << 10


# -- access -----------------------------------------------------------------------------------------------------------


@pytest.mark.ceph
@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_a_clear_failure_that_does_not_repeat_them(
    ceph_store_url: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "NOTTHERIGHTONE")
    store = open_store(ceph_store_url)
    for attempt in (
        lambda: store.stat("a" * 64),
        lambda: store.put([SMALL], sha256=digest_of(SMALL), size=len(SMALL)),
        lambda: store.open("a" * 64),
        lambda: list(store.list()),
        lambda: store.stage("upload-1", [SMALL]),
    ):
        with pytest.raises(StorageFailure, match="access is denied") as failure:
            attempt()
        shown = str(failure.value) + repr(failure.value.detail)
        assert "NOTTHERIGHTONE" not in shown
        assert os.environ["AWS_ACCESS_KEY_ID"] not in shown
        assert failure.value.__cause__ is None
        assert failure.value.__suppress_context__


def test_no_credentials_are_a_clear_failure(s3_store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(StorageFailure, match="no credentials"):
        open_store(s3_store_url).stat("a" * 64)


def test_a_missing_bucket_is_a_failure_and_not_a_missing_blob(store: S3Store) -> None:
    elsewhere = S3Store(replace(store.location, bucket="there-is-no-such-bucket"))
    for attempt in (
        lambda: elsewhere.stat("a" * 64),
        lambda: elsewhere.open("a" * 64),
        lambda: put(elsewhere, SMALL),
        lambda: list(elsewhere.list()),
        lambda: list(elsewhere.staged()),
    ):
        with pytest.raises(StorageFailure, match=r"no such bucket|no bucket"):
            attempt()


def test_a_server_that_is_not_there_is_a_clear_failure(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "ATTEMPTS", 1)
    with pytest.raises(StorageFailure, match="can't be reached") as failure:
        S3Store(S3Location("bucket", endpoint_url="http://127.0.0.1:1")).stat("a" * 64)
    assert "http" not in str(failure.value)


# -- on bad servers and networks --------------------------------------------------------------------------------------


@pytest.fixture
def proxy(s3_endpoint: str) -> FaultyProxy:
    return FaultyProxy(s3_endpoint)


@pytest.fixture
def behind(proxy: FaultyProxy, s3_store_url: str) -> Iterator[S3Store]:
    """A store whose requests go through the proxy."""
    parts = urlsplit(s3_store_url)
    with faults.running(proxy) as endpoint:
        options = urlencode({"endpoint_url": endpoint, "region": "us-east-1"})
        store = open_store(parts._replace(query=options).geturl())
        assert isinstance(store, S3Store)
        yield store
        store._bucket._client.close()


def is_read(request: Request) -> bool:
    return request.method == "GET" and ("/blobs/" in request.path or "/staging/" in request.path)


def is_write(request: Request) -> bool:
    return request.method == "PUT" and "x-amz-copy-source" not in {name.lower() for name in request.headers}


def is_completion(request: Request) -> bool:
    return request.method == "POST" and "uploadId=" in request.path


def assert_nothing_kept(store: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = None
    assert list(store.list()) == []
    assert list(store.staged()) == []


def test_content_that_is_there_is_not_sent_again(behind: S3Store, proxy: FaultyProxy) -> None:
    put(behind, LARGE)
    proxy.seen.clear()
    assert behind.put([LARGE], sha256=digest_of(LARGE), size=len(LARGE)) is False
    assert [request.method for request in proxy.seen] == ["HEAD"]


@pytest.mark.parametrize("start", [0, 1_000_000])
def test_a_read_that_is_cut_again_and_again_goes_on_where_it_stopped(
    behind: S3Store, proxy: FaultyProxy, start: int
) -> None:
    sha256 = put(behind, LARGE)
    proxy.fault = faults.first(8, is_read, faults.cut_body(1_500_000))
    with behind.open(sha256, start=start) as stream:
        assert stream.read() == LARGE[start:]


def test_a_read_that_makes_no_progress_fails(behind: S3Store, proxy: FaultyProxy) -> None:
    sha256 = put(behind, LARGE)
    proxy.fault = faults.first(1000, is_read, faults.cut_body(0))
    with behind.open(sha256) as stream, pytest.raises(StorageFailure, match="keeps breaking"):
        stream.read()


def test_a_blob_that_is_replaced_by_a_shorter_one_while_it_is_read_is_a_failure(
    behind: S3Store, proxy: FaultyProxy
) -> None:
    sha256 = put(behind, LARGE)
    proxy.fault = faults.first(1, is_read, faults.cut_body(2 * MIB))
    with behind.open(sha256) as stream, pytest.raises(StorageFailure, match="changed"):
        behind._bucket.put(behind._key(sha256), LARGE[:-1])
        stream.read()


def test_a_server_that_ignores_the_range_is_a_failure(behind: S3Store, proxy: FaultyProxy) -> None:
    sha256 = put(behind, SMALL)

    def forget_range(request: Request, server: Server) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "range"}
        return server(replace(request, headers=headers))

    proxy.fault = forget_range
    with pytest.raises(StorageFailure, match="ignored the range"):
        behind.open(sha256, start=3)


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize(
    ("wanted", "fault"), [(is_write, faults.flip_request), (is_read, faults.flip_answer)], ids=["written", "read back"]
)
def test_bytes_that_change_on_the_way_never_get_a_name(
    behind: S3Store, proxy: FaultyProxy, *, data: bytes, wanted: object, fault: faults.Fault
) -> None:
    assert callable(wanted)
    proxy.fault = faults.first(1, wanted, fault)
    with pytest.raises(DigestMismatch):
        put(behind, data)
    assert_nothing_kept(behind, proxy)


def test_a_write_that_was_only_pretended_is_a_failure(behind: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = faults.first(1, is_write, faults.pretend)
    with pytest.raises(StorageFailure, match="is not there"):
        put(behind, SMALL)
    assert_nothing_kept(behind, proxy)


def test_a_completion_that_was_only_pretended_is_a_failure(behind: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = faults.first(1, is_completion, faults.pretend)
    with pytest.raises(StorageFailure):
        put(behind, LARGE)
    assert_nothing_kept(behind, proxy)


def test_a_copy_that_was_only_pretended_is_a_failure(behind: S3Store, proxy: FaultyProxy) -> None:
    def is_copy(request: Request) -> bool:
        return request.method == "PUT" and not is_write(request)

    def pretend_copy(_request: Request, _server: Server) -> Answer:
        return Answer(200, {}, b'<CopyObjectResult><ETag>"x"</ETag></CopyObjectResult>')

    proxy.fault = faults.first(1, is_copy, pretend_copy)
    with pytest.raises(StorageFailure, match="nothing arrived"):
        put(behind, SMALL)
    assert_nothing_kept(behind, proxy)


def test_a_completion_whose_answer_is_lost_is_still_a_completion(behind: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = faults.first(1, is_completion, faults.lose_answer)
    assert read(behind, put(behind, LARGE)) == LARGE


def test_a_completion_that_answers_without_an_etag_is_a_completion(behind: S3Store, proxy: FaultyProxy) -> None:
    def without_etag(request: Request, server: Server) -> Answer:
        server(request)
        return Answer(200, {}, b"<CompleteMultipartUploadResult><ETag></ETag></CompleteMultipartUploadResult>")

    proxy.fault = faults.first(1, is_completion, without_etag)
    assert read(behind, put(behind, LARGE)) == LARGE


def test_a_server_that_is_busy_for_a_moment_is_asked_again(behind: S3Store, proxy: FaultyProxy) -> None:
    proxy.fault = faults.first(1, lambda request: True, faults.refuse(503, "SlowDown"))
    assert read(behind, put(behind, SMALL)) == SMALL


def test_a_part_that_is_refused_aborts_the_upload(behind: S3Store, proxy: FaultyProxy) -> None:
    def is_second_part(request: Request) -> bool:
        return "partNumber=2" in request.path

    proxy.fault = faults.first(1, is_second_part, faults.refuse(403, "QuotaExceeded"))
    with pytest.raises(StorageFailure, match="quota"):
        put(behind, LARGE)
    assert_nothing_kept(behind, proxy)


def test_an_upload_survives_a_failure_while_it_is_completed(behind: S3Store, proxy: FaultyProxy) -> None:
    behind.stage("upload-1", [SMALL])
    proxy.fault = faults.first(1, is_read, faults.refuse(403, "AccessDenied"))
    with pytest.raises(StorageFailure):
        behind.complete("upload-1", sha256=digest_of(SMALL), size=len(SMALL))
    assert [staged.upload_id for staged in behind.staged()] == ["upload-1"]
    assert behind.complete("upload-1", sha256=digest_of(SMALL), size=len(SMALL)) is True


def test_a_late_write_to_an_upload_changes_nothing_that_was_verified(behind: S3Store, proxy: FaultyProxy) -> None:
    behind.stage("upload-1", [SMALL])

    def write_late(request: Request, server: Server) -> Answer:
        behind._bucket.put(f"{behind.location.prefix}/staging/upload-1", b"other bytes")
        return server(request)

    proxy.fault = faults.first(1, is_read, write_late)
    assert behind.complete("upload-1", sha256=digest_of(SMALL), size=len(SMALL)) is True
    assert read(behind, digest_of(SMALL)) == SMALL


# -- parts ------------------------------------------------------------------------------------------------------------


@given(size=st.integers(0, 5 << 40))
def test_no_blob_needs_more_parts_than_s3_takes(size: int) -> None:
    part = part_size(size)
    assert part * PARTS >= size
    assert 5 * MIB <= part <= 5 << 30


@given(chunks=st.lists(st.binary(max_size=50)), part=st.integers(1, 40))
def test_parts_have_one_size_but_for_the_last_and_hold_the_stream(chunks: list[bytes], part: int) -> None:
    parts = list(in_parts(chunks, part))
    assert b"".join(parts) == b"".join(chunks)
    assert all(len(piece) == part for piece in parts[:-1])
    assert all(1 <= len(piece) <= part for piece in parts[-1:])


def test_an_upload_of_too_many_parts_is_refused(s3_store_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "PARTS", 1)
    store = open_store(s3_store_url)
    with pytest.raises(StorageFailure, match="parts"):
        store.stage("upload-1", [bytes(17 * MIB)])
    assert list(store.staged()) == []
