"""Xorbs, the packs in which Xet's clients send chunks of files, and where their chunks are by now. Pure.

A xorb waits in staging until files were made of its chunks. From then on its chunks are ranges of those files' blobs,
and it needs no bytes of its own: a later file may name it all the same.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Self

_first = attrgetter("first")


@dataclass(frozen=True, slots=True)
class Span:
    """The chunks from `first` to before `end` of a xorb are the bytes of a blob from `offset` on."""

    first: int
    end: int
    sha256: str
    offset: int


@dataclass(frozen=True, slots=True)
class Piece:
    """`length` bytes of a blob from `offset` on."""

    sha256: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Xorb:
    """A team's xorb. `ends` is where each of its chunks ends, in plain bytes; `staged` where those wait, if they do.

    `spans` are in the order of their chunks, and no two have the same ones.
    """

    id: int
    name: str
    ends: Sequence[int]
    staged: str | None
    spans: tuple[Span, ...] = ()

    @classmethod
    def of(cls, id: int, name: str, *, ends: Sequence[int], staged: str | None, spans: Iterable[Span]) -> Self:
        """A xorb of which spans may overlap: what two have, the first one keeps."""
        bare = cls(id, name, ends, staged)
        return cls(id, name, ends, staged, tuple(bare._disjoint(spans)))

    def start_of(self, chunk: int) -> int:
        """Where a chunk begins, in plain bytes; of the number of chunks: where the last one ends."""
        return self.ends[chunk - 1] if chunk else 0

    def length_of(self, first: int, end: int) -> int:
        """Plain bytes of the chunks from `first` to before `end`."""
        return self.start_of(end) - self.start_of(first)

    def is_in_files(self, first: int = 0, end: int | None = None) -> bool:
        """Whether spans have all chunks from `first` to before `end`."""
        return next(self.missing(first, len(self.ends) if end is None else end), None) is None

    def missing(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """The parts of a range of chunks that no span has."""
        for span in self._spans_from(first):
            if span.first >= end:
                break
            if span.first > first:
                yield first, span.first
            first = max(first, span.end)
        if first < end:
            yield first, end

    def pieces(self, first: int, end: int) -> Iterator[Piece]:
        """The bytes of a range of chunks, which spans have from end to end."""
        for span in self._spans_from(first):
            if span.first >= end:
                break
            until = min(span.end, end)
            if first < until:
                offset = span.offset + self.length_of(span.first, first)
                yield Piece(span.sha256, offset, self.length_of(first, until))
                first = until

    def _spans_from(self, chunk: int) -> Iterator[Span]:
        """The spans from the one on that has a chunk, or would have it."""
        start = max(bisect_right(self.spans, chunk, key=_first) - 1, 0)
        return (self.spans[index] for index in range(start, len(self.spans)))

    def _disjoint(self, spans: Iterable[Span]) -> Iterator[Span]:
        reached = 0
        for span in sorted(spans, key=_first):
            if span.end > reached:
                first = max(span.first, reached)
                yield Span(first, span.end, span.sha256, span.offset + self.length_of(span.first, first))
                reached = span.end
