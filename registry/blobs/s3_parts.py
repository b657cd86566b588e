"""Parts that go to S3 through this process, for clients that can't reach the store: held on the disk, not in memory."""

import tempfile
from typing import TYPE_CHECKING

from registry.blobs.disk import storage_failure
from registry.blobs.parts import Counted, Parts

if TYPE_CHECKING:
    from registry.blobs.bucket import Bucket

_IN_MEMORY = 1 << 20  # bytes


class PartRelay:
    """One part on its way to a bucket; S3 must know its digest and length before the first byte."""

    def __init__(self, bucket: "Bucket", key: str, parts: Parts, *, number: int) -> None:
        self._counted = Counted(parts, number)
        self._bucket = bucket
        self._key = key
        self._session = parts.session
        self._number = number
        self._held = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `close`

    def write(self, data: bytes) -> None:
        self._counted.add(len(data))
        with storage_failure("holding", f"part {self._number}"):
            self._held.write(data)

    def finish(self) -> None:
        self._counted.check()
        self._held.seek(0)
        self._bucket.put_part(self._key, self._session, self._number, self._held)

    def close(self) -> None:
        self._held.close()
