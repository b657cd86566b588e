"""Sending files and referring to them: two steps between which some may be collected, if they are far apart."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from registry.domain.errors import BlobNotFound

T = TypeVar("T")
_ATTEMPTS = 5


def resending(send: Callable[[], T]) -> T:
    """Send files and refer to them; again, a few times, when some were collected, or found damaged, in between."""
    for _ in range(_ATTEMPTS - 1):
        with suppress(BlobNotFound):
            return send()
    return send()
