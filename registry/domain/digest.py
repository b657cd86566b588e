"""Digests: streams, canonical JSON, a version's content, a commit, a base model's fingerprint.

Every identity in the registry is a sha256 written as 64 lowercase hex digits. What is hashed is drawn here and
nowhere else; changing any of it changes the identity of everything that exists.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

CHUNK = 1 << 20  # bytes read at once: large enough for disk speed, small enough to stay out of the memory's way
SERVING_DIGITS = 12

# Files of an adapter that don't change what is served. Everything else is content.
DESCRIPTIVE_NAMES = frozenset(
    {"readme.md", "license", "license.md", "license.txt", "notice", "metrics.json", "composition.json"}
    | {".gitattributes", ".gitignore"}
)


def read_chunks(stream: BinaryIO, chunk: int = CHUNK) -> Iterator[bytes]:
    """Yield the rest of a stream in pieces of at most `chunk` bytes."""
    while data := stream.read(chunk):
        yield data


def sha256_stream(stream: BinaryIO) -> tuple[str, int]:
    """Hash the rest of a stream: (hex digest, bytes read)."""
    digest, size = hashlib.sha256(), 0
    for data in read_chunks(stream):
        digest.update(data)
        size += len(data)
    return digest.hexdigest(), size


def canonical_json(value: Any) -> bytes:
    """The one byte string for a JSON value: sorted keys, no blanks, UTF-8, no NaN or infinity (ValueError).

    Source: the rules of RFC 8785 for everything but numbers, which are written as Python's shortest `repr`.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def json_digest(value: Any) -> str:
    """sha256 over the canonical JSON of a value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def is_content(path: str) -> bool:
    """Whether a file takes part in a version's content digest (README, licence and metrics don't)."""
    return path.rsplit("/", 1)[-1].lower() not in DESCRIPTIVE_NAMES


def content_digest(files: Mapping[str, str]) -> str:
    """Digest of what is served: sha256 over the sorted (path, sha256) of the content files of {path: sha256}."""
    return json_digest(sorted([path, sha256] for path, sha256 in files.items() if is_content(path)))


def commit_id(
    *, adapter: str, parent: str | None, author: str, created_at: str, message: str, files: Mapping[str, str]
) -> str:
    """First 40 hex digits of sha256 over a commit's tree, parent, author, time (ISO 8601, UTC) and message."""
    document = {
        "adapter": adapter,
        "parent": parent,
        "author": author,
        "created_at": created_at,
        "message": message,
        "files": sorted([path, sha256] for path, sha256 in files.items()),
    }
    return json_digest(document)[:40]


def base_fingerprint(tensors: Iterable[tuple[str, str, str, tuple[int, ...], str]]) -> str:
    """Identity of a base model: sha256 over its sorted (component, name, dtype, shape, sha256 of the bytes).

    Independent of sharding and file names. `component` is "" for a single model, else diffusers' folder name.
    """
    return json_digest(
        sorted([component, name, dtype, list(shape), sha256] for component, name, dtype, shape, sha256 in tensors)
    )
