"""What tests of Xet's uploads share: packs that are sent, shards, and what came of them."""

import hashlib
import io
from collections.abc import Sequence

from registry.service import Registry
from tests.xet.packing import Packed, Part, xorb

CHUNKS = [bytes([65 + number]) * (number + 1) for number in range(8)]
ONE = xorb(CHUNKS[:5], scheme=1)
TWO = xorb(CHUNKS[5:], scheme=2)
WHOLE = [Part(ONE, 0, 5), Part(TWO, 0, 3)]


def send(registry: Registry, *packs: Packed, team: str = "ours") -> list[bool]:
    return [registry.keep_xorb(team, one.name, io.BytesIO(one.sent)) for one in packs]


def make(registry: Registry, data: bytes, team: str = "ours") -> None:
    registry.take_shard(team, registry.xorb_epoch(team), io.BytesIO(data), size=len(data))


def plain(parts: Sequence[Part]) -> bytes:
    return b"".join(part.plain for part in parts)


def content(registry: Registry, parts: Sequence[Part]) -> bytes:
    with registry.blobs.open(hashlib.sha256(plain(parts)).hexdigest()) as stream:
        return stream.read()


def has(registry: Registry, parts: Sequence[Part], team: str = "ours") -> bool:
    sha256 = hashlib.sha256(plain(parts)).hexdigest()
    with registry.database.reading() as catalog:
        return catalog.blobs.possessed(team, [sha256]) == {sha256}


def assert_nothing_came_of_it(registry: Registry, team: str = "ours") -> None:
    """No blob, nobody's file, no upload that counts."""
    assert list(registry.blobs.list()) == []
    usage = registry.quota(team).usage
    assert (usage.uploads, usage.incoming) == (0, 0)


def staged(registry: Registry) -> int:
    return len(list(registry.blobs.staged()))
