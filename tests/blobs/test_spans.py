"""What is told of a store's calls: each once, how it ended, and nothing of what they are about."""

import hashlib
from collections.abc import Mapping

import pytest

from registry.blobs.memory import MemoryStore
from registry.blobs.spans import told
from registry.domain.errors import BlobNotFound
from registry.domain.spans import Finish

DATA = b"bytes"
SHA256 = hashlib.sha256(DATA).hexdigest()


def test_each_call_of_a_store_is_told_once_and_changes_nothing() -> None:
    begun: list[tuple[str, Mapping[str, str]]] = []
    ended: list[BaseException | None] = []

    def begin(name: str, attributes: Mapping[str, str]) -> Finish:
        begun.append((name, attributes))
        return ended.append

    store = told(MemoryStore(), begin)
    assert store.put([DATA], sha256=SHA256, size=len(DATA))
    with store.open(SHA256, start=1) as stream:
        assert stream.read() == DATA[1:]
    assert store.delete(SHA256)
    with pytest.raises(BlobNotFound) as raised, store.open(SHA256):
        pass
    assert begun == [("blobs.put", {}), ("blobs.open", {}), ("blobs.delete", {}), ("blobs.open", {})]
    assert ended == [None, None, None, raised.value]
