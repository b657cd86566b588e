"""Xorbs and shards as clients make them, and as nobody should."""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import lz4.frame

from registry.xet.hashing import chunk_hash, name_of, xorb_hash

TAG = b"HFRepoMetaData\x00UigEj{\x81W\x83\xa5\xbd\xd9\\\xcd\xd1J\xa9"
END = b"\xff" * 32 + bytes(16)


def chunk(data: bytes, scheme: int = 0) -> bytes:
    """A chunk in a scheme, compressed or not."""
    packed = data
    if scheme:
        grouped = b"".join(data[place::4] for place in range(4)) if scheme == 2 else data
        packed = lz4.frame.compress(grouped)
    return head(scheme, len(packed), len(data)) + packed


def head(scheme: int, length: int, size: int, version: int = 0) -> bytes:
    return struct.pack("<B3sB3s", version, length.to_bytes(3, "little"), scheme, size.to_bytes(3, "little"))


@dataclass(frozen=True)
class Packed:
    """A xorb: its name, its bytes as they are sent, and its plain chunks."""

    name: str
    sent: bytes
    chunks: tuple[bytes, ...]

    @property
    def plain(self) -> bytes:
        return b"".join(self.chunks)


def xorb(chunks: Sequence[bytes], scheme: int = 0) -> Packed:
    leaves = [(chunk_hash(data), len(data)) for data in chunks]
    return Packed(name_of(xorb_hash(leaves)), b"".join(chunk(data, scheme) for data in chunks), tuple(chunks))


def digest_of(name: str) -> bytes:
    """The inverse of `name_of`."""
    return struct.pack("<4Q", *(int(name[start : start + 16], 16) for start in range(0, 64, 16)))


@dataclass(frozen=True)
class Part:
    """Chunks from `first` to before `end` of a xorb; `size` is what the shard says of their bytes."""

    xorb: Packed
    first: int
    end: int
    size: int | None = None

    @property
    def plain(self) -> bytes:
        return b"".join(self.xorb.chunks[self.first : self.end])

    @property
    def record(self) -> bytes:
        size = len(self.plain) if self.size is None else self.size
        return struct.pack("<32sIIII", digest_of(self.xorb.name), 0, size, self.first, self.end)


def file_records(parts: Sequence[Part], sha256: str | None = None, *, count: int | None = None) -> bytes:
    """A file of a shard; `sha256` and `count` are what it lies about."""
    plain = b"".join(part.plain for part in parts)
    said = sha256 or hashlib.sha256(plain).hexdigest()
    flags = 3 << 30
    top = struct.pack("<32sIIQ", bytes(32), flags, len(parts) if count is None else count, 0)
    verification = bytes(48) * len(parts)
    return top + b"".join(part.record for part in parts) + verification + digest_of(said) + bytes(16)


def shard(files: Sequence[bytes], xorbs: Sequence[Packed] = ()) -> bytes:
    """A shard of files as `file_records` makes them, which tells of some xorbs."""
    header = TAG + struct.pack("<QQ", 2, 0)
    told = b"".join(
        struct.pack("<32sIIII", digest_of(one.name), 0, len(one.chunks), len(one.plain), len(one.sent))
        + b"".join(chunk_hash(data) + bytes(16) for data in one.chunks)
        for one in xorbs
    )
    return header + b"".join(files) + END + told + END
