"""Where chunks are: what spans have and what is missing, against counting chunk by chunk."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from registry.domain.xorbs import Span, Xorb

CHUNKS = 12
ENDS = [3 * (chunk + 1) for chunk in range(CHUNKS)]  # each has three bytes


@st.composite
def spans(draw: st.DrawFn) -> list[Span]:
    """Spans that may overlap; the blob's name says where in the xorb it begins."""
    found = []
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.integers(0, CHUNKS - 1))
        end = draw(st.integers(first + 1, CHUNKS))
        begins = draw(st.integers(0, first))  # the blob has the xorb's chunks from here on
        found.append(Span(first, end, str(begins), 3 * (first - begins)))
    return found


ranges = st.integers(0, CHUNKS - 1).flatmap(lambda first: st.tuples(st.just(first), st.integers(first + 1, CHUNKS)))


@given(spans(), ranges)
def test_what_is_missing_is_what_no_span_has(given_spans: list[Span], wanted: tuple[int, int]) -> None:
    xorb = Xorb.of(1, "x", ends=ENDS, staged=None, spans=given_spans)
    had = {chunk for span in given_spans for chunk in range(span.first, span.end)}
    missing = [chunk for first, end in xorb.missing(*wanted) for chunk in range(first, end)]
    assert missing == [chunk for chunk in range(*wanted) if chunk not in had]
    assert xorb.is_in_files(*wanted) == (not missing)


@given(spans(), ranges)
def test_pieces_are_the_bytes_of_the_chunks_in_their_order(given_spans: list[Span], wanted: tuple[int, int]) -> None:
    xorb = Xorb.of(1, "x", ends=ENDS, staged=None, spans=given_spans)
    if not xorb.is_in_files(*wanted):
        return
    found = []
    for piece in xorb.pieces(*wanted):
        start = 3 * int(piece.sha256) + piece.offset
        found += range(start, start + piece.length)
    assert found == list(range(3 * wanted[0], 3 * wanted[1]))


@given(spans())
def test_spans_are_kept_disjoint_and_in_order(given_spans: list[Span]) -> None:
    kept = Xorb.of(1, "x", ends=ENDS, staged=None, spans=given_spans).spans
    assert all(before.end <= after.first for before, after in pairwise(kept))
