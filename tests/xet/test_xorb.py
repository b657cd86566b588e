"""Xorbs: what comes out is what its name says, or an error that says where it isn't."""

import io
import random
import tracemalloc

import lz4.frame
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.domain.errors import InvalidFile
from registry.xet.chunks import LONGEST
from registry.xet.xorb import MOST_BYTES, MOST_CHUNKS, XorbReader
from tests.xet.packing import chunk, head, xorb

chunks = st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=40)
schemes = st.integers(0, 2)


def plain(sent: bytes, name: str) -> list[bytes]:
    return list(XorbReader(io.BytesIO(sent), name))


@given(chunks, schemes)
def test_chunks_come_out_as_they_went_in_whatever_compressed_them(given_chunks: list[bytes], scheme: int) -> None:
    packed = xorb(given_chunks, scheme)
    reader = XorbReader(io.BytesIO(packed.sent), packed.name)
    assert list(reader) == given_chunks
    assert reader.size == len(packed.plain)
    assert list(reader.ends) == [len(b"".join(given_chunks[: end + 1])) for end in range(len(given_chunks))]


@given(chunks, schemes, st.data())
def test_a_changed_byte_is_found(given_chunks: list[bytes], scheme: int, data: st.DataObject) -> None:
    packed = xorb(given_chunks, scheme)
    changed = bytearray(packed.sent)
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        assert plain(bytes(changed), packed.name) == given_chunks  # a frame has bits that mean nothing
    except InvalidFile as error:
        assert packed.name in error.message


@given(chunks, st.data())
def test_a_xorb_that_is_cut_off_is_refused(given_chunks: list[bytes], data: st.DataObject) -> None:
    packed = xorb(given_chunks)
    with pytest.raises(InvalidFile):
        plain(packed.sent[: data.draw(st.integers(0, len(packed.sent) - 1))], packed.name)


@given(st.binary(max_size=400), st.integers(0, 300), st.integers(0, 300), schemes)
def test_any_bytes_are_refused_in_our_words(data: bytes, length: int, size: int, scheme: int) -> None:
    for sent in (data, head(scheme, length, size) + data):
        with pytest.raises(InvalidFile):
            plain(sent, "0" * 64)


def test_a_frame_that_holds_more_than_its_header_says_is_not_inflated() -> None:
    bomb = lz4.frame.compress(bytes(30 << 20))[: 2 * LONGEST]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidFile, match="exactly 1000 bytes"):
            plain(head(1, len(bomb), 1000) + bomb, "0" * 64)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(head(0, LONGEST + 1, LONGEST + 1) + bytes(LONGEST + 1), id="a chunk too long"),
        pytest.param(head(1, 0xFFFFFF, 8) + bytes(64), id="data too long"),
        pytest.param(head(0, 4, 5) + b"abcd", id="plain, of two lengths"),
        pytest.param(head(0, 0, 0), id="an empty chunk"),
        pytest.param(head(3, 4, 4) + b"abcd", id="an unknown scheme"),
        pytest.param(head(0, 4, 4, version=1) + b"abcd", id="an unknown version"),
        pytest.param(head(1, 8, 4) + b"\x04\x22\x4d\x18abcd", id="not a frame"),
        pytest.param(chunk(b"a") * (MOST_CHUNKS + 1), id="too many chunks"),
        pytest.param(chunk(bytes(LONGEST), 1) * (MOST_BYTES // LONGEST + 1), id="too many bytes"),
    ],
)
def test_what_breaks_the_format_is_refused(sent: bytes) -> None:
    with pytest.raises(InvalidFile):
        plain(sent, "0" * 64)


def test_a_footer_of_older_clients_is_left_alone() -> None:
    packed = xorb([b"one", b"two"])
    assert plain(packed.sent + b"XETBLOB\x01" + random.Random(1).randbytes(90), packed.name) == [b"one", b"two"]
