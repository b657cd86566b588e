"""The laws of a blob store. Every store passes them; the fixture `store` names the stores, each one empty."""

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
import urllib3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.blobs.parts import Parts
from registry.blobs.store import BlobStore
from registry.domain.errors import (
    BlobNotFound,
    DigestMismatch,
    PartMismatch,
    UploadIncomplete,
    UploadNotFound,
    WrongUsage,
)

PART = 8 << 20  # bytes; from here on an S3 upload has several parts
ABSENT = "0" * 64
EMPTY = hashlib.sha256(b"").hexdigest()

on_one_store = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
contents = st.binary(max_size=200_000)
chunkings = st.lists(st.integers(1, 100_000), min_size=1, max_size=8)


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The data in chunks of these sizes, again and again, with an empty chunk at both ends."""
    yield b""
    position = turn = 0
    while position < len(data):
        size = sizes[turn % len(sizes)]
        yield data[position : position + size]
        position, turn = position + size, turn + 1
    yield b""


def put(store: BlobStore, data: bytes) -> str:
    store.put([data], sha256=digest_of(data), size=len(data))
    return digest_of(data)


def read(store: BlobStore, sha256: str, start: int = 0, length: int | None = None) -> bytes:
    with store.open(sha256, start=start, length=length) as stream:
        return stream.read()


def names(store: BlobStore) -> list[str]:
    return [stat.sha256 for stat in store.list()]


def broken_stream(data: bytes) -> Iterator[bytes]:
    yield data
    raise ConnectionResetError("the client went away")


def pattern(size: int) -> bytes:
    """Bytes that repeat with a period that no block size divides."""
    return (bytes(range(251)) * (size // 251 + 1))[:size]


# -- what is put is what is read --------------------------------------------------------------------------------------


@on_one_store
@given(data=contents, sizes=chunkings)
def test_what_is_put_in_any_chunks_is_read_back(store: BlobStore, data: bytes, sizes: list[int]) -> None:
    sha256 = digest_of(data)
    store.put(cut(data, sizes), sha256=sha256, size=len(data))
    assert read(store, sha256) == data
    stat = store.stat(sha256)
    assert stat is not None
    assert (stat.sha256, stat.size) == (sha256, len(data))


@on_one_store
@given(data=contents, start=st.integers(0, 250_000), length=st.none() | st.integers(0, 250_000))
def test_a_range_read_equals_the_slice(store: BlobStore, data: bytes, start: int, length: int | None) -> None:
    sha256 = put(store, data)
    assert read(store, sha256, start, length) == data[start:][:length]


@on_one_store
@given(data=contents, sizes=st.lists(st.integers(1, 70_000), min_size=1, max_size=5))
def test_a_stream_can_be_read_in_pieces_of_any_size(store: BlobStore, data: bytes, sizes: list[int]) -> None:
    sha256 = put(store, data)
    pieces, turn = [], 0
    with store.open(sha256) as stream:
        while piece := stream.read(sizes[turn % len(sizes)]):
            assert len(piece) <= sizes[turn % len(sizes)]
            pieces.append(piece)
            turn += 1
    assert b"".join(pieces) == data


def test_the_empty_blob_is_a_blob(store: BlobStore) -> None:
    assert store.put([], sha256=EMPTY, size=0)
    assert read(store, EMPTY) == b""
    assert read(store, EMPTY, 5, 5) == b""
    assert names(store) == [EMPTY]


@pytest.mark.parametrize("size", [PART - 1, PART, PART + 1, 2 * PART + 7])
def test_blobs_around_the_size_of_a_part_are_read_back(store: BlobStore, size: int) -> None:
    data = pattern(size)
    assert store.put(cut(data, [3_000_000]), sha256=digest_of(data), size=size)
    assert read(store, digest_of(data)) == data
    assert read(store, digest_of(data), PART - 5, 10) == data[PART - 5 : PART + 5]
    assert list(store.staged()) == []


def test_a_blob_says_when_it_was_written(store: BlobStore) -> None:
    stat = store.stat(put(store, b"now"))
    assert stat is not None
    assert abs(stat.modified_at - datetime.now(UTC)) < timedelta(minutes=5)
    assert list(store.list()) == [stat]


# -- nothing wrong is kept --------------------------------------------------------------------------------------------


def assert_nothing_kept(store: BlobStore) -> None:
    assert names(store) == []
    assert list(store.staged()) == []


@pytest.mark.parametrize("size", [11, PART + 1])
def test_a_put_with_another_digest_is_refused_and_keeps_nothing(store: BlobStore, size: int) -> None:
    data = pattern(size)
    with pytest.raises(DigestMismatch) as refused:
        store.put([data], sha256=ABSENT, size=size)
    assert (refused.value.expected, refused.value.found) == (ABSENT, digest_of(data))
    assert_nothing_kept(store)


@pytest.mark.parametrize("promised", [0, 10, 12, 10 * PART])
def test_a_put_of_another_size_is_refused_and_keeps_nothing(store: BlobStore, promised: int) -> None:
    data = b"eleven byte"
    with pytest.raises(DigestMismatch) as refused:
        store.put([data], sha256=digest_of(data), size=promised)
    assert (refused.value.expected_size, refused.value.found_size) == (promised, 11)
    assert_nothing_kept(store)


def test_a_put_stops_reading_at_the_first_byte_too_many(store: BlobStore) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1000
            yield b"x" * 1000

    with pytest.raises(DigestMismatch):
        store.put(endless(), sha256=ABSENT, size=10_000)
    assert taken <= 11_000
    assert_nothing_kept(store)


@pytest.mark.parametrize("size", [11, 2 * PART + 1])
def test_a_put_whose_stream_breaks_passes_the_error_on_and_keeps_nothing(store: BlobStore, size: int) -> None:
    data = pattern(size)
    with pytest.raises(ConnectionResetError):
        store.put(broken_stream(data), sha256=digest_of(data), size=size)
    assert_nothing_kept(store)


@pytest.mark.parametrize("size", [11, 2 * PART + 1])
def test_a_stage_whose_stream_breaks_passes_the_error_on_and_keeps_nothing(store: BlobStore, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        store.stage("upload-1", broken_stream(pattern(size)))
    assert_nothing_kept(store)


def test_a_liar_is_refused_also_when_the_blob_is_there(store: BlobStore) -> None:
    sha256 = put(store, b"the truth")
    with pytest.raises(DigestMismatch):
        store.put([b"the tooth"], sha256=sha256, size=9)
    assert read(store, sha256) == b"the truth"
    assert list(store.staged()) == []


# -- one content is one blob ------------------------------------------------------------------------------------------


def test_a_second_put_of_the_same_content_is_not_new(store: BlobStore) -> None:
    sha256 = digest_of(b"again")
    assert store.put([b"again"], sha256=sha256, size=5) is True
    assert store.put([b"ag", b"ain"], sha256=sha256, size=5) is False
    assert names(store) == [sha256]
    assert list(store.staged()) == []


@on_one_store
@given(data=contents, sizes=chunkings)
def test_bytes_of_unknown_digest_become_the_blob_that_they_are(store: BlobStore, data: bytes, sizes: list[int]) -> None:
    sha256 = digest_of(data)
    store.delete(sha256)
    first, again = (store.ingest(lambda: cut(data, sizes)) for _ in range(2))
    assert (first.sha256, first.size, first.new) == (sha256, len(data), True)
    assert (again.sha256, again.new) == (sha256, False)
    assert read(store, sha256) == data


def test_an_ingest_whose_stream_breaks_keeps_nothing(store: BlobStore) -> None:
    with pytest.raises(ConnectionResetError):
        store.ingest(lambda: broken_stream(pattern(PART + 1)))
    assert names(store) == []
    assert list(store.staged()) == []


def test_sixteen_writers_of_one_content_make_one_blob(store: BlobStore) -> None:
    data = pattern(300_000)
    sha256 = digest_of(data)

    def write(_: int) -> bool:
        return store.put(cut(data, [70_000]), sha256=sha256, size=len(data))

    with ThreadPoolExecutor(16) as threads:
        new = list(threads.map(write, range(16)))
    assert any(new)
    assert names(store) == [sha256]
    assert read(store, sha256) == data
    assert list(store.staged()) == []


def test_a_deleted_blob_is_gone_and_can_come_back(store: BlobStore) -> None:
    sha256 = put(store, b"to and fro")
    assert store.delete(sha256) is True
    assert store.delete(sha256) is False
    assert store.stat(sha256) is None
    assert names(store) == []
    assert store.put([b"to and fro"], sha256=sha256, size=10) is True


def test_an_absent_blob_is_said_to_be_absent(store: BlobStore) -> None:
    with pytest.raises(BlobNotFound) as absent, store.open(ABSENT):
        pass
    assert absent.value.sha256 == ABSENT
    with pytest.raises(BlobNotFound), store.open(ABSENT, start=3, length=0):
        pass
    assert store.stat(ABSENT) is None
    assert store.delete(ABSENT) is False
    assert names(store) == []
    assert list(store.staged()) == []


# -- the list ---------------------------------------------------------------------------------------------------------


def test_a_list_is_complete_and_in_order_and_keeps_to_its_prefix(store: BlobStore) -> None:
    sizes = {put(store, b"%d" % number): len(b"%d" % number) for number in range(24)}
    stats = list(store.list())
    assert {stat.sha256: stat.size for stat in stats} == sizes
    assert [stat.sha256 for stat in stats] == sorted(sizes)
    some = min(sizes)
    for prefix in (some[:1], some[:2], some[:3], some):
        assert [stat.sha256 for stat in store.list(prefix)] == sorted(name for name in sizes if name.startswith(prefix))


# -- staging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 11, PART + 1, 2 * PART + 1])
def test_staged_bytes_become_a_blob_when_they_are_verified(store: BlobStore, size: int) -> None:
    data = pattern(size)
    sha256 = digest_of(data)
    assert store.stage("upload-1", cut(data, [2_000_000])) == size
    assert [(staged.upload_id, staged.size) for staged in store.staged()] == [("upload-1", size)]
    assert store.stat(sha256) is None
    assert store.complete("upload-1", sha256=sha256, size=size) is True
    assert read(store, sha256) == data
    assert list(store.staged()) == []


def test_staged_bytes_are_never_read_as_a_blob(store: BlobStore) -> None:
    sha256 = digest_of(b"not yet")
    store.stage(sha256, [b"not yet"])
    assert store.stat(sha256) is None
    assert names(store) == []
    with pytest.raises(BlobNotFound), store.open(sha256):
        pass


@pytest.mark.parametrize("size", [10, PART + 1])
def test_staged_bytes_can_be_read_while_they_wait(store: BlobStore, size: int) -> None:
    data = pattern(size)
    store.stage("upload-1", [data])
    for start, length in ((0, size), (3, 4), (size - 2, 2)):
        with store.open_staged("upload-1", start=start, length=length) as stream:
            assert stream.read() == data[start : start + length]
    store.discard("upload-1")
    with pytest.raises(UploadNotFound), store.open_staged("upload-1", length=1):
        pass
    with pytest.raises(WrongUsage), store.open_staged("../upload", length=1):
        pass


def test_bytes_that_changed_in_staging_are_refused_and_discarded(store: BlobStore) -> None:
    store.stage("upload-1", [b"as promised"])
    store.stage("upload-1", [b"as replaced"])
    with pytest.raises(DigestMismatch) as refused:
        store.complete("upload-1", sha256=digest_of(b"as promised"), size=11)
    assert refused.value.found == digest_of(b"as replaced")
    assert_nothing_kept(store)


@pytest.mark.parametrize("promised", [10, 12])
def test_staged_bytes_of_another_size_are_refused_and_discarded(store: BlobStore, promised: int) -> None:
    store.stage("upload-1", [b"as promised"])
    with pytest.raises(DigestMismatch):
        store.complete("upload-1", sha256=digest_of(b"as promised"), size=promised)
    assert_nothing_kept(store)


def test_completing_what_is_there_already_is_not_new_but_still_needs_the_bytes(store: BlobStore) -> None:
    sha256 = put(store, b"shared")
    with pytest.raises(BlobNotFound):
        store.complete("upload-1", sha256=sha256, size=6)
    store.stage("upload-1", [b"shored"])
    with pytest.raises(DigestMismatch):
        store.complete("upload-1", sha256=sha256, size=6)
    store.stage("upload-1", [b"shared"])
    assert store.complete("upload-1", sha256=sha256, size=6) is False
    assert read(store, sha256) == b"shared"
    assert list(store.staged()) == []


def test_discarded_uploads_are_gone_and_nobody_minds_a_second_time(store: BlobStore) -> None:
    store.stage("upload-1", [b"one"])
    store.stage("upload-2", [b"two"])
    store.discard("upload-1")
    store.discard("upload-1")
    assert [staged.upload_id for staged in store.staged()] == ["upload-2"]


# -- uploads in parts -------------------------------------------------------------------------------------------------

PIECE = 16 << 20  # bytes; what an upload is cut into


def send(store: BlobStore, parts: Parts, number: int, data: bytes) -> None:
    """Send a part as a client would: to its URL, where it has one, without credentials."""
    url = store.part_url(parts, number, seconds=60)
    if url is None:
        write_part(store, parts, number, data)
        return
    answer = urllib3.request("PUT", url, body=data, retries=False)
    assert answer.status == 200, answer.data


def write_part(store: BlobStore, parts: Parts, number: int, data: bytes) -> None:
    with closing(store.open_part(parts, number)) as part:
        for chunk in cut(data, [1_000_003]):
            part.write(chunk)
        part.finish()


def piece(data: bytes, number: int) -> bytes:
    return data[(number - 1) * PIECE : number * PIECE]


@pytest.mark.parametrize("through", [send, write_part])
@pytest.mark.parametrize("size", [1, PIECE, 2 * PIECE + 1])
def test_parts_in_any_order_become_a_blob(store: BlobStore, size: int, through: Callable[..., None]) -> None:
    data = pattern(size)
    parts = store.begin_parts("upload-1", size=size)
    for number in range(parts.count, 0, -1):
        assert store.list_parts(parts) == {n: parts.size_of(n) for n in range(number + 1, parts.count + 1)}
        through(store, parts, number, piece(data, number))
    assert [(staged.upload_id, staged.size) for staged in store.staged()] == [("upload-1", size)]
    store.finish_parts(parts)
    store.finish_parts(parts)
    assert store.list_parts(parts) == {n: parts.size_of(n) for n in range(1, parts.count + 1)}
    assert store.complete("upload-1", sha256=digest_of(data), size=size) is True
    assert read(store, digest_of(data)) == data
    assert list(store.staged()) == []


def test_parts_are_sent_at_once_and_twice(store: BlobStore) -> None:
    data = pattern(2 * PIECE + 5)
    parts = store.begin_parts("upload-1", size=len(data))
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(lambda n: send(store, parts, n, piece(data, n)), [1, 2, 3]))
    send(store, parts, 2, piece(data, 2))
    store.finish_parts(parts)
    assert store.complete("upload-1", sha256=digest_of(data), size=len(data)) is True


def test_parts_are_not_joined_before_all_are_there(store: BlobStore) -> None:
    data = pattern(PIECE + 1)
    parts = store.begin_parts("upload-1", size=len(data))
    for expected in (2, 1):
        with pytest.raises(UploadIncomplete) as refused:
            store.finish_parts(parts)
        assert refused.value.missing == expected
        with pytest.raises(BlobNotFound):
            store.complete("upload-1", sha256=digest_of(data), size=len(data))
        send(store, parts, expected, piece(data, expected))
    store.finish_parts(parts)


def test_a_part_that_is_too_long_or_too_short_or_broken_off_does_not_count(store: BlobStore) -> None:
    parts = store.begin_parts("upload-1", size=PIECE + 10)
    for wrong in (b"", b"x" * 9, b"x" * 11):
        with pytest.raises(PartMismatch) as refused:
            write_part(store, parts, 2, wrong)
        assert (refused.value.number, refused.value.expected, refused.value.found) == (2, 10, len(wrong))
    store.open_part(parts, 2).close()
    assert store.list_parts(parts) == {}


def test_wrong_bytes_in_parts_are_refused_and_discarded(store: BlobStore) -> None:
    parts = store.begin_parts("upload-1", size=11)
    send(store, parts, 1, b"as promised")
    send(store, parts, 1, b"as replaced")
    store.finish_parts(parts)
    with pytest.raises(DigestMismatch):
        store.complete("upload-1", sha256=digest_of(b"as promised"), size=11)
    assert_nothing_kept(store)


def test_discarded_parts_are_gone(store: BlobStore) -> None:
    parts = store.begin_parts("upload-1", size=PIECE + 1)
    send(store, parts, 2, b"x")
    store.discard("upload-1")
    assert not store.list_parts(parts)
    assert list(store.staged()) == []


@pytest.mark.parametrize("number", [-1, 0, 3])
def test_a_part_that_an_upload_does_not_have_is_refused(store: BlobStore, number: int) -> None:
    parts = store.begin_parts("upload-1", size=PIECE + 1)
    with pytest.raises(WrongUsage):
        store.open_part(parts, number)
    with pytest.raises(WrongUsage):
        store.part_url(parts, number, seconds=60)


@pytest.mark.parametrize("size", [-1, 0, (1 << 40) + 1])
def test_an_upload_of_an_impossible_size_is_refused(store: BlobStore, size: int) -> None:
    with pytest.raises(WrongUsage):
        store.begin_parts("upload-1", size=size)


@pytest.mark.parametrize("size", [1000, 16 << 20, 100 * 10**9, 1 << 40])
def test_an_upload_of_any_size_has_at_most_a_thousand_parts(store: BlobStore, size: int) -> None:
    parts = store.begin_parts("upload-1", size=size)
    assert 1 <= parts.count <= 1000
    assert sum(parts.size_of(number) for number in range(1, parts.count + 1)) == size
    assert parts.offset_of(parts.count) + parts.size_of(parts.count) == size


def test_a_blob_is_read_by_its_presigned_url_where_there_are_such(store: BlobStore) -> None:
    url = store.presigned_url(put(store, b"read me"), seconds=60)
    if url is not None:
        assert urllib3.request("GET", url, headers={"Range": "bytes=5-"}).data == b"me"


# -- hostile names ----------------------------------------------------------------------------------------------------

BAD_DIGESTS = [
    "",
    "../x",
    "a" * 63,
    "a" * 65,
    "A" * 64,
    "g" * 64,
    "a" * 62 + "/x",
    "a" * 64 + "\n",
    "\0" * 64,
    "４" * 64,
]
BAD_UPLOADS = ["", ".", "..", "../x", "a/b", "A", "a" * 65, "a b", "a\0", "a\n", "a_b", "é"]
BAD_PREFIXES = ["../", "/", "A", "x", "a" * 65, "a*", "a\n"]


def test_what_is_not_a_digest_is_refused(store: BlobStore) -> None:
    store.stage("upload-1", [b"x"])
    for sha256 in BAD_DIGESTS:
        for attempt in (
            partial(store.put, [b"x"], sha256=sha256, size=1),
            partial(store.complete, "upload-1", sha256=sha256, size=1),
            partial(store.open, sha256),
            partial(store.stat, sha256),
            partial(store.delete, sha256),
        ):
            with pytest.raises(WrongUsage):
                attempt()
    assert names(store) == []


def test_what_is_not_an_upload_id_is_refused(store: BlobStore) -> None:
    for upload_id in BAD_UPLOADS:
        for attempt in (
            partial(store.stage, upload_id, [b"x"]),
            partial(store.complete, upload_id, sha256=digest_of(b"x"), size=1),
            partial(store.discard, upload_id),
            partial(store.begin_parts, upload_id, size=1),
        ):
            with pytest.raises(WrongUsage):
                attempt()
    assert_nothing_kept(store)


def test_what_no_digest_begins_with_is_refused(store: BlobStore) -> None:
    for prefix in BAD_PREFIXES:
        with pytest.raises(WrongUsage):
            store.list(prefix)


def test_a_range_that_counts_backwards_is_refused(store: BlobStore) -> None:
    sha256 = put(store, b"forwards")
    for start, length in [(-1, None), (0, -1), (-5, 5)]:
        with pytest.raises(WrongUsage):
            store.open(sha256, start=start, length=length)
