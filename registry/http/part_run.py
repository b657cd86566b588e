"""Parts of an upload that come one after the other in one body."""

from registry.blobs.parts import PartWriter
from registry.domain.errors import PartMismatch
from registry.service import Registry
from registry.service.arrivals import Part, State


class PartRun:
    """Takes the bytes of the parts `first` to `last`. A part is there once it is whole, whatever becomes of the next.

    When an upload has all its parts already, what comes is let go: somebody sends it again whose answer was lost.
    """

    def __init__(self, registry: Registry, upload_id: str, *, first: int, last: int) -> None:
        """Raises UploadNotFound, and what was wrong with the upload."""
        arrival = registry.upload(upload_id)
        self._registry = registry
        self._upload_id = upload_id
        self._wanted = arrival.state is State.OPEN
        self._left = [part for part in reversed(arrival.parts) if first <= part.number <= last]
        self._part: Part | None = None  # that came last
        self._room = 0  # bytes that it still lacks
        self._writer: PartWriter | None = None

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises PartMismatch for the first one too many, UploadBusy."""
        rest = memoryview(data if self._wanted else b"")
        while rest:
            if self._writer is None and not self._left:
                raise self._mismatch(len(rest))
            writer = self._writer or self._begin()
            now = rest[: self._room]
            writer.write(bytes(now))
            rest, self._room = rest[len(now) :], self._room - len(now)
            if not self._room:
                writer.finish()
                self.close()

    def finish(self) -> None:
        """Say that these were all. Raises PartMismatch for a part that isn't whole."""
        if self._writer is None and self._left:
            self._begin()
        if self._writer is not None:
            raise self._mismatch(-self._room)

    def close(self) -> None:
        """Let go of the part that is being written."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _begin(self) -> PartWriter:
        self._part = self._left.pop()
        self._room = self._part.size
        self._writer = self._registry.open_part(self._upload_id, self._part.number)
        return self._writer

    def _mismatch(self, by: int) -> PartMismatch:
        assert self._part is not None
        return PartMismatch(self._upload_id, self._part.number, self._part.size, self._part.size + by)
