"""A shard: how files are made of chunks of xorbs, and what xorbs its sender has made.

    48 bytes   header: a tag of 32 bytes, version and length of the footer (two numbers of 64 bits)
    files      for each file 48 bytes (hash, flags, number of segments), then 48 bytes for each segment (xorb, flags,
               plain bytes, first chunk, chunk behind the last), for each its verification (if the flags say so), and
               one record with the file's sha256 (if they say so); after the last file, a record that begins with ones
    xorbs      for each xorb 48 bytes (hash, flags, number of chunks, plain bytes, bytes as sent), then 48 bytes for
               each chunk; after the last xorb, a record that begins with ones

What follows (tables to look things up, a footer) isn't read. Nor are a file's own hash, its verifications and the
hashes of chunks: the sha256 of the rebuilt file proves more than they do, and xorbs proved theirs when they came.

Source: https://huggingface.co/docs/xet/shard.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from registry.domain.errors import InvalidFile
from registry.xet.hashing import name_of
from registry.xet.xorb import MOST_BYTES, MOST_CHUNKS

MOST_SENT = 65 << 20  # bytes; clients cut shards at 64 MiB
MOST_FILES = 10_000
MOST_XORBS = 1 << 14  # a TiB of full ones
LARGEST = 1 << 40  # bytes of a file
_PATH = "the shard"
_RECORD = 48  # bytes
_TAG = b"HFRepoMetaData\x00" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
_VERSION = 2
_END = b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30  # flags of a file
_SEGMENT = struct.Struct("<32sIIII")
_FILE = struct.Struct("<32sIIQ")
_AT_ONCE = 1 << 20  # bytes that are skipped at once


@dataclass(frozen=True, slots=True)
class Segment:
    """`size` bytes of a file: the chunks from `first` to before `end` of a xorb."""

    xorb: str
    size: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A file of `size` bytes. Its segments stay packed: a hostile shard has a million of them."""

    sha256: str
    size: int
    _records: bytes = field(repr=False)

    def segments(self) -> Iterator[Segment]:
        """The file's segments, in its order."""
        return map(_segment, _SEGMENT.iter_unpack(self._records))


@dataclass(frozen=True, slots=True)
class Shard:
    """What a shard says: its files, and how many chunks each of its sender's xorbs has."""

    files: tuple[ShardFile, ...]
    xorbs: Mapping[str, int]


def read_shard(stream: BinaryIO, *, size: int) -> Shard:
    """Read a shard of `size` bytes from its beginning; memory is linear in them. Raises InvalidFile."""
    if size > MOST_SENT:
        raise InvalidFile(_PATH, "its length", f"a shard has at most {MOST_SENT} bytes, not {size}")
    source = _Source(stream, size)
    head = source.take(_RECORD, "its header")
    if head[:32] != _TAG:
        raise InvalidFile(_PATH, "byte 0", "it doesn't begin as shards do")
    if int.from_bytes(head[32:40], "little") != _VERSION:
        raise InvalidFile(_PATH, "byte 32", f"version {int.from_bytes(head[32:40], 'little')} of shards is unknown")
    return Shard(tuple(_files(source)), dict(_xorbs(source)))


class _Source:
    """A stream of which no more is taken than is there."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = size

    def take(self, count: int, where: str) -> bytes:
        """The next bytes. Raises InvalidFile if they aren't there, before anything is made for them."""
        if count > self._left:
            raise InvalidFile(_PATH, where, "the shard ends inside it")
        self._left -= count
        return self._stream.read(count)

    def skip(self, count: int, where: str) -> None:
        while count:
            step = min(count, _AT_ONCE)
            self.take(step, where)
            count -= step


def _files(source: _Source) -> Iterator[ShardFile]:
    number = 0
    while True:
        where = f"file {number}"
        digest, flags, count, _ = _FILE.unpack(source.take(_RECORD, where))
        if digest == _END:
            return
        if number == MOST_FILES:
            raise InvalidFile(_PATH, where, f"a shard has at most {MOST_FILES} files")
        if flags & ~(_VERIFIED | _WITH_SHA256) or not flags & _WITH_SHA256:
            raise InvalidFile(_PATH, where, "it doesn't say its sha256, or says something unknown")
        if not count:
            raise InvalidFile(_PATH, where, "it is made of nothing")
        records = source.take(count * _RECORD, where)
        if flags & _VERIFIED:
            source.skip(count * _RECORD, where)
        sha256 = name_of(source.take(_RECORD, where)[:32])
        yield ShardFile(sha256, _size(records, where), records)
        number += 1


def _size(records: bytes, where: str) -> int:
    """The bytes of a file's segments, each of which is possible."""
    total = 0
    for number, (_, _, size, first, end) in enumerate(_SEGMENT.iter_unpack(records)):
        if not first < end <= MOST_CHUNKS or not 1 <= size <= MOST_BYTES:
            raise InvalidFile(_PATH, f"{where}, segment {number}", f"chunks {first} to {end} can't be {size} bytes")
        total += size
    if total > LARGEST:
        raise InvalidFile(_PATH, where, f"a file has at most {LARGEST} bytes, not {total}")
    return total


def _segment(record: tuple[bytes, int, int, int, int]) -> Segment:
    digest, _, size, first, end = record
    return Segment(name_of(digest), size, first, end)


def _xorbs(source: _Source) -> Iterator[tuple[str, int]]:
    number = 0
    while True:
        where = f"xorb {number}"
        digest, _, count, _, _ = _SEGMENT.unpack(source.take(_RECORD, where))
        if digest == _END:
            return
        if number == MOST_XORBS or not 1 <= count <= MOST_CHUNKS:
            raise InvalidFile(_PATH, where, f"{MOST_XORBS} xorbs of 1 to {MOST_CHUNKS} chunks are allowed")
        source.skip(count * _RECORD, where)
        yield name_of(digest), count
        number += 1
