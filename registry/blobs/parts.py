"""Uploads in parts: cut by size, sent in any order and in parallel, found again after a crash on either end.

A part is written through the store (`open_part`), or sent straight to it by a URL without credentials (`part_url`).
Joined parts are staged bytes like any others: nothing is a blob before `complete` has read and verified it.
"""

from dataclasses import dataclass
from typing import Protocol

from registry.domain.errors import PartMismatch, WrongUsage

MIB = 1 << 20
SMALLEST = 16 * MIB  # S3 wants 5 MiB at least
MOST = 1_000  # parts of an upload: few enough to be listed, and signed, in one answer
LONGEST = 1 << 40  # bytes of an upload


@dataclass(frozen=True, slots=True)
class Parts:
    """An upload of `size` bytes, cut every `part_size`; numbers count from 1. `session` is the store's name of it."""

    upload_id: str
    size: int
    part_size: int
    session: str = ""

    @property
    def count(self) -> int:
        return -(-self.size // self.part_size)

    def offset_of(self, number: int) -> int:
        """Where a part begins. Raises WrongUsage for a number that isn't one of the upload's."""
        if not 1 <= number <= self.count:
            raise WrongUsage(f"upload {self.upload_id} has the parts 1 to {self.count}, not {number}")
        return (number - 1) * self.part_size

    def size_of(self, number: int) -> int:
        """Bytes of a part. Raises WrongUsage as `offset_of` does."""
        return min(self.part_size, self.size - self.offset_of(number))


def part_size_for(size: int) -> int:
    """Bytes of a part, in whole MiB, so that an upload has at most 1,000. Raises WrongUsage for an impossible size."""
    if not 1 <= size <= LONGEST:
        raise WrongUsage(f"an upload has 1 to {LONGEST:,} bytes, not {size:,}")
    return max(SMALLEST, -(-size // (MOST * MIB)) * MIB)


class Counted:
    """How much of a part has arrived, and that it is never more, and in the end not less, than was said."""

    def __init__(self, parts: Parts, number: int) -> None:
        self.expected = parts.size_of(number)
        self.found = 0
        self._named = (parts.upload_id, number)

    def add(self, count: int) -> None:
        """Count bytes before they are kept. Raises PartMismatch for one too many."""
        self.found += count
        if self.found > self.expected:
            raise PartMismatch(*self._named, self.expected, self.found)

    def check(self) -> None:
        """Raises PartMismatch unless the part is whole."""
        if self.found != self.expected:
            raise PartMismatch(*self._named, self.expected, self.found)


class PartWriter(Protocol):
    """Takes the bytes of one part in their order. Without `finish` nothing of them counts; `close` is always due."""

    def write(self, data: bytes) -> None:
        """Take the next bytes. Raises PartMismatch for the first one too many."""

    def finish(self) -> None:
        """Say that these were all: the part is there now, and still after a crash. Raises PartMismatch."""

    def close(self) -> None:
        """Let go of what the part held, finished or not."""


class PartStore(Protocol):
    """The half of a blob store that takes uploads in parts. A part sent twice is there once, as it was sent last."""

    def begin_parts(self, upload_id: str, *, size: int) -> Parts:
        """Begin an upload of `size` bytes (1 to 1 TiB) under a new upload id."""

    def part_url(self, parts: Parts, number: int, *, seconds: int) -> str | None:
        """A URL that takes a part by PUT for so long, without credentials; None where parts go through `open_part`."""

    def open_part(self, parts: Parts, number: int) -> PartWriter:
        """Write a part. Raises UploadBusy while the parts are being joined."""

    def list_parts(self, parts: Parts) -> dict[int, int] | None:
        """Number and bytes of the parts that are there; of all, when they are joined. None if the store forgot it."""

    def finish_parts(self, parts: Parts) -> None:
        """Join the parts to staged bytes, for `complete`; a second time does nothing.

        Raises UploadIncomplete when parts are missing, UploadBusy while one is being written.
        """
