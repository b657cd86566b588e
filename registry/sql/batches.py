"""Long lists of keys, in pieces that one statement takes."""

from collections.abc import Iterable, Iterator

BATCH = 1000


def batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """The keys, sorted, in lists of at most 1000: whoever locks row after row does so in one order."""
    ordered = sorted(keys)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))
