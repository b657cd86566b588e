"""Shards: files and their segments, and nothing made for lengths that lie."""

import hashlib
import io
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.errors import InvalidFile
from registry.xet.shard import Segment, Shard, read_shard
from tests.xet.packing import END, TAG, Part, file_records, shard, xorb

ONE = xorb([b"alpha", b"beta", b"gamma"])
TWO = xorb([b"delta"])
PARTS = [Part(ONE, 0, 2), Part(TWO, 0, 1), Part(ONE, 1, 3)]
HEADER = TAG + struct.pack("<QQ", 2, 0)


def read(data: bytes) -> Shard:
    return read_shard(io.BytesIO(data), size=len(data))


def test_a_shard_tells_how_files_are_made_and_of_what() -> None:
    found = read(shard([file_records(PARTS), file_records([Part(TWO, 0, 1)])], [ONE, TWO]))
    assert found.xorbs == {ONE.name: 3, TWO.name: 1}
    assert [file.sha256 for file in found.files] == [
        hashlib.sha256(b"alphabetadeltabetagamma").hexdigest(),
        hashlib.sha256(b"delta").hexdigest(),
    ]
    assert found.files[0].size == len(b"alphabetadeltabetagamma")
    assert list(found.files[0].segments()) == [
        Segment(ONE.name, 9, 0, 2),
        Segment(TWO.name, 5, 0, 1),
        Segment(ONE.name, 9, 1, 3),
    ]


@given(st.integers(0, 2000))
def test_a_shard_that_is_cut_off_is_refused(length: int) -> None:
    whole = shard([file_records(PARTS)], [ONE])
    with pytest.raises(InvalidFile):
        read(whole[: min(length, len(whole) - 1)])


@given(st.binary(max_size=300), st.integers(0, 2))
def test_any_bytes_are_read_or_refused_in_our_words(data: bytes, beginning: int) -> None:
    try:
        read((b"", HEADER, HEADER + END)[beginning] + data)
    except InvalidFile as error:
        assert "shard" in error.message


@given(st.integers(0, 400), st.integers(1, 255))
def test_a_changed_byte_is_read_or_refused_in_our_words(place: int, change: int) -> None:
    changed = bytearray(shard([file_records(PARTS)], [ONE]))
    changed[place % len(changed)] ^= change
    try:
        found = read(bytes(changed))
    except InvalidFile:
        return
    for file in found.files:
        assert file.size == sum(segment.size for segment in file.segments())


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"x" * 200, id="not a shard"),
        pytest.param(TAG + struct.pack("<QQ", 3, 0) + END + END, id="an unknown version"),
        pytest.param(HEADER + file_records(PARTS, count=2**32 - 1) + END + END, id="segments that aren't there"),
        pytest.param(HEADER + END + struct.pack("<32sIIII", bytes(32), 0, 2**32 - 1, 0, 0), id="chunks that aren't"),
        pytest.param(HEADER + file_records([], count=0) + END + END, id="a file of nothing"),
        pytest.param(shard([file_records([Part(ONE, 2, 1, 3)])]), id="a range that counts backwards"),
        pytest.param(shard([file_records([Part(ONE, 1, 1, 3)])]), id="a range of nothing"),
        pytest.param(shard([file_records([Part(ONE, 0, 9000, 3)])]), id="a range beyond any xorb"),
        pytest.param(shard([file_records([Part(ONE, 0, 1, 2**32 - 1)])]), id="more bytes than any xorb has"),
        pytest.param(HEADER + struct.pack("<32sIIQ", bytes(32), 0, 1, 0) + bytes(48) + END + END, id="no sha256"),
    ],
)
def test_what_breaks_the_format_is_refused_and_nothing_is_made_for_it(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFile):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
