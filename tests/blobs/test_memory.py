"""The memory store's own: a stream that is open sees one blob, whatever happens to the store."""

import hashlib

from registry.blobs.memory import MemoryStore


def test_a_reader_keeps_its_bytes_while_the_blob_is_deleted() -> None:
    store, sha256 = MemoryStore(), hashlib.sha256(b"kept").hexdigest()
    store.put([b"kept"], sha256=sha256, size=4)
    with store.open(sha256) as stream:
        store.delete(sha256)
        assert stream.read() == b"kept"
