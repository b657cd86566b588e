"""The words that a version is found by: lower-cased runs of letters and digits."""

import re
from collections.abc import Iterable
from itertools import islice

_WORD = re.compile(r"[^\W_]+")
LONGEST = 64  # characters kept of a word
MOST = 128  # words kept of a version: a message of megabytes must not become an index of megabytes


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of some texts, sorted; the first 128 of them, 64 characters each."""
    found = (match[0].lower()[:LONGEST] for text in texts for match in _WORD.finditer(text))
    distinct: dict[str, None] = {}
    for word in islice(found, 64 * MOST):
        distinct[word] = None
        if len(distinct) == MOST:
            break
    return sorted(distinct)
