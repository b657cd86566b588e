"""A store whose calls are told to somebody who measures.

A span ends when the call returns: bytes that are read from an opened blob, and blobs that are listed, come after it.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from registry.blobs.store import BlobStore
from registry.domain.spans import Begin


class _Told:
    """Any store. Whatever it can do is passed on, so that a method that stores gain is told of too."""

    def __init__(self, store: BlobStore, begin: Begin) -> None:
        self._store = store
        self._begin = begin

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return _told(found, f"blobs.{name}", self._begin) if callable(found) else found


def told(store: BlobStore, begin: Begin) -> BlobStore:
    """The same store, each of whose calls is a span."""
    return cast(BlobStore, _Told(store, begin))


def _told(call: Callable[..., Any], name: str, begin: Begin) -> Callable[..., Any]:
    @wraps(call)
    def measured(*arguments: Any, **options: Any) -> Any:
        finish = begin(name, {})
        try:
            answer = call(*arguments, **options)
        except BaseException as error:
            finish(error)
            raise
        finish(None)
        return answer

    return measured
