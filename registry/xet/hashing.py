"""Hashes of chunks and xorbs: keyed BLAKE3, and a Merkle tree over them.

Source: https://huggingface.co/docs/xet/hashing, which has the two keys and the rule where the tree is cut.
"""

import re
import struct
from collections.abc import Sequence

from blake3 import blake3

from registry.domain.errors import WrongUsage

NAME = re.compile("[0-9a-f]{64}")
_CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
_NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
_SMALLEST, _LARGEST = 3, 9  # children of a node, but for the last ones
_BRANCHING = 4  # a node ends behind a child whose hash is a multiple of this

Leaf = tuple[bytes, int]  # a hash, and how many bytes are below it


def name_of(digest: bytes) -> str:
    """A hash of 32 bytes as Xet writes it: four little-endian numbers of 64 bits, in hex."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", digest))


def check_name(name: str) -> None:
    """Raises WrongUsage unless the text is the name of a chunk or a xorb."""
    if not NAME.fullmatch(name):
        raise WrongUsage(f"{name[:80]!r} is not the name of a xorb: 64 lowercase hex digits")


def chunk_hash(data: bytes | bytearray) -> bytes:
    """The hash of a chunk's plain bytes."""
    return blake3(data, key=_CHUNK_KEY).digest()


def xorb_hash(chunks: Sequence[Leaf]) -> bytes:
    """The hash of a xorb of these chunks, at least one: levels of nodes until one is left."""
    level = list(chunks)
    while len(level) > 1:
        level = _parents(level)
    return level[0][0]


def _parents(level: Sequence[Leaf]) -> list[Leaf]:
    parents, start = [], 0
    while start < len(level):
        end = _end_of_node(level, start)
        parents.append(_node(level[start:end]))
        start = end
    return parents


def _end_of_node(level: Sequence[Leaf], start: int) -> int:
    """Where the node ends that begins with a child: at the first hash that says so, within the bounds."""
    for child in range(start + _SMALLEST - 1, min(start + _LARGEST, len(level))):
        if int.from_bytes(level[child][0][24:], "little") % _BRANCHING == 0:
            return child + 1
    return min(start + _LARGEST, len(level))


def _node(children: Sequence[Leaf]) -> Leaf:
    text = "".join(f"{name_of(digest)} : {size}\n" for digest, size in children)
    return blake3(text.encode(), key=_NODE_KEY).digest(), sum(size for _, size in children)
