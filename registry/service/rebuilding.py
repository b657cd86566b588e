"""Files made of xorbs: a shard says how, and each is a stream into the store, which keeps it if its sha256 is right.

What a shard names must be the team's, chunk by chunk. A file in the making is an upload like any other: it counts
among what comes in, one server at a time makes it, and the next one begins anew when that one dies.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from time import sleep
from typing import TYPE_CHECKING, BinaryIO

from registry.blobs.checks import Watch
from registry.domain.digest import read_chunks
from registry.domain.errors import BlobNotFound, InvalidFile, UnknownXorb, UploadNotFound
from registry.domain.records import Upload
from registry.domain.xorbs import Span, Xorb
from registry.service.arrivals import parts_of
from registry.service.shelf import Shelf
from registry.service.uploads import Uploads
from registry.service.xorbs import end_epoch

if TYPE_CHECKING:
    from registry.xet.shard import Segment, Shard, ShardFile

MOST_REPEATED = 16 << 30  # bytes that a file may have beyond those of the xorbs that it names
_WAIT = 0.5  # seconds between two looks at somebody else's work
_SPANS_AT_ONCE = 5_000


def _go_on(_made: int, _of: int) -> None:
    """Nobody watches."""


class Rebuilding(Uploads):
    """Make files of xorbs."""

    def take_shard(
        self, team: str, epoch: str, stream: BinaryIO, *, size: int, watch: Callable[[int, int], None] = _go_on
    ) -> None:
        """Make the files of a shard of `size` bytes, and let the team have them; a second time does nothing.

        `epoch` is the one in which the sender remembers xorbs. `watch` is told of bytes made, of how many; what it
        raises ends it. Files that were made by then stay. Raises InvalidFile, UnknownXorb, DigestMismatch,
        QuotaExceeded, TeamNotFound, NotAllowed.
        """
        from registry.xet.shard import read_shard  # lazy: start-up time

        self.check_sender(team)
        shard, shelf = read_shard(stream, size=size), Shelf(self.database, team)
        with self._telling_to_forget(team, epoch):
            named = _check(shard, shelf)
            of, made = sum(file.size for file in shard.files), 0
            for file in shard.files:
                self._take_file(shelf, file, _beyond(made, of, watch))
                made += file.size
            self._settle_xorbs(shelf, named)

    @contextmanager
    def _telling_to_forget(self, team: str, epoch: str) -> Iterator[None]:
        """Let the team's clients forget what they remember, when one names what isn't there."""
        try:
            yield
        except UnknownXorb:
            self._begin_epoch(team, after=epoch)
            raise

    # -- one file -----------------------------------------------------------------------------------------------------

    def _take_file(self, shelf: Shelf, file: "ShardFile", watch: Watch) -> None:
        arrival = self.begin_upload(shelf.team, file.sha256, file.size)
        while arrival.upload and not arrival.done:
            if self._claim(arrival.upload):
                self._make_claimed(arrival.upload, shelf, file, watch)
                return
            watch(arrival.upload.verified)
            sleep(_WAIT)  # somebody else makes it, or sends it
            arrival = self.begin_upload(shelf.team, file.sha256, file.size)
        if not all(shelf.get(part.xorb).is_in_files(part.first, part.end) for part in file.segments()):
            self._make_file(shelf, file, watch)  # the team has it, and these xorbs say the same bytes, if they do
            self._remember_spans(shelf, file)

    def _make_claimed(self, upload: Upload, shelf: Shelf, file: "ShardFile", watch: Watch) -> None:
        try:
            with self._held(upload, lambda: False) as hold:
                self._make_file(shelf, file, _both(watch, hold))
            self._register(upload)
        except BaseException:
            self._give_up_making(upload)
            raise
        self._remember_spans(shelf, file)

    def _make_file(self, shelf: Shelf, file: "ShardFile", watch: Watch) -> None:
        self.make_room(file.sha256)
        self.blobs.put(self._bytes_of(shelf, file, watch), sha256=file.sha256, size=file.size)
        watch(file.size)

    def _give_up_making(self, upload: Upload) -> None:
        """Forget an upload that came to nothing, unless somebody has sent parts of it."""
        self._release(upload, None)
        if not self.blobs.list_parts(parts_of(upload)):
            self._forget(upload)

    def _bytes_of(self, shelf: Shelf, file: "ShardFile", watch: Watch) -> Iterator[bytes]:
        made = 0
        for segment in file.segments():
            for chunk in self._bytes_of_segment(shelf, segment):
                made += len(chunk)
                if made < file.size:  # of the whole it is told when that is proved
                    watch(made)
                yield chunk

    def _bytes_of_segment(self, shelf: Shelf, segment: "Segment") -> Iterator[bytes]:
        """The bytes of a segment: as they wait, or out of the files that have them."""
        xorb = shelf.get(segment.xorb)
        if xorb.staged:
            start, length = xorb.start_of(segment.first), xorb.length_of(segment.first, segment.end)
            try:
                waiting = self.blobs.open_staged(xorb.staged, start=start, length=length)
            except UploadNotFound:
                xorb = shelf.get_anew(segment.xorb)  # somebody else made a file of it meanwhile
            else:
                yield from _chunks(waiting)
                return
        if not xorb.is_in_files(segment.first, segment.end):
            raise UnknownXorb(shelf.team, xorb.name)
        for piece in xorb.pieces(segment.first, segment.end):
            yield from _chunks(self._open_blob(shelf, piece.sha256, start=piece.offset, length=piece.length))

    def _open_blob(self, shelf: Shelf, sha256: str, *, start: int, length: int) -> AbstractContextManager[BinaryIO]:
        try:
            return self.blobs.open(sha256, start=start, length=length)
        except BlobNotFound:
            with self.database.writing() as catalog:
                for team in catalog.xorbs.lose(sha256):
                    end_epoch(catalog, team)
            raise UnknownXorb(shelf.team, f"whose chunks blob {sha256} had") from None

    # -- what is remembered -------------------------------------------------------------------------------------------

    def _remember_spans(self, shelf: Shelf, file: "ShardFile") -> None:
        """Note where the chunks are that no file had before."""
        found: dict[tuple[int, int], Span] = {}
        offset = 0
        for segment in file.segments():
            xorb = shelf.get(segment.xorb)
            for first, end in xorb.missing(segment.first, segment.end):
                start = offset + xorb.length_of(segment.first, first)
                known = found.get((xorb.id, first))
                if known is None or known.end < end:  # of two that begin alike, the longer one
                    found[xorb.id, first] = Span(first, end, file.sha256, start)
            offset += segment.size
            if len(found) >= _SPANS_AT_ONCE:
                self._note_spans(shelf, found)
        self._note_spans(shelf, found)

    def _note_spans(self, shelf: Shelf, found: dict[tuple[int, int], Span]) -> None:
        with self.database.writing() as catalog:
            catalog.xorbs.remember((xorb, span) for (xorb, _), span in found.items())
        found.clear()
        shelf.clear()

    def _settle_xorbs(self, shelf: Shelf, named: set[str]) -> None:
        """Drop the bytes of xorbs whose chunks are all in files."""
        shelf.clear()
        for name in named:
            xorb = shelf.get(name)
            if xorb.staged and xorb.is_in_files():
                with self.database.writing() as catalog:
                    dropped = catalog.xorbs.unstage(xorb)
                if dropped:
                    self.blobs.discard(xorb.staged)


def _beyond(made: int, of: int, watch: Callable[[int, int], None]) -> Watch:
    """Progress of one file, as that of all."""
    return lambda count: watch(made + count, of)


def _both(watch: Watch, hold: Watch) -> Watch:
    def told(count: int) -> None:
        watch(count)
        hold(count)

    return told


def _chunks(opened: AbstractContextManager[BinaryIO]) -> Iterator[bytes]:
    with opened as stream:
        yield from read_chunks(stream)


def _check(shard: "Shard", shelf: Shelf) -> set[str]:
    """The xorbs that a shard names, all of which are there as it says. Raises InvalidFile, UnknownXorb."""
    for name, chunks in shard.xorbs.items():
        if len(shelf.get(name).ends) != chunks:
            raise InvalidFile("the shard", f"xorb {name}", f"it doesn't have {chunks} chunks")
    named = set(shard.xorbs)
    for file in shard.files:
        named |= _check_file(file, shelf)
    return named


def _check_file(file: "ShardFile", shelf: Shelf) -> set[str]:
    sizes: dict[str, int] = {}
    for segment in file.segments():
        xorb = shelf.get(segment.xorb)
        sizes[xorb.name] = xorb.ends[-1]
        _check_segment(file, segment, xorb)
    if file.size > sum(sizes.values()) + MOST_REPEATED:
        raise InvalidFile("the shard", f"file {file.sha256}", "it repeats itself too often")
    return set(sizes)


def _check_segment(file: "ShardFile", segment: "Segment", xorb: Xorb) -> None:
    if segment.end > len(xorb.ends) or segment.size != xorb.length_of(segment.first, segment.end):
        where = f"file {file.sha256}, xorb {xorb.name}"
        chunks = f"chunks {segment.first} to {segment.end}"
        raise InvalidFile("the shard", where, f"{chunks} are not {segment.size} bytes")
