"""Answers of look-ups as bytes, found by who may read what and by what was asked, word for word; bounded in memory.

This room knows bytes and headers, and which adapter an answer is about; not when an answer is right.
"""

import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.types import Send

from registry.domain.rights import Readable

MOST = 10_000  # answers
MOST_BYTES = 64 * 2**20  # of all of them
LARGEST = 2**20  # bytes of one answer that is kept
LASTS = 60.0  # seconds: what somebody changes in the database by hand is noticed too
_AROUND = 1024  # bytes that keeping an answer takes beside its body
_STANDS_IN_304 = frozenset({b"etag", b"cache-control", b"vary"})

Key = tuple[Readable | None, bytes, bytes]  # what the caller may read, path, query
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered about an adapter (by its key). An error has no tag."""

    adapter: str
    status: int
    headers: Headers
    body: bytes
    until: float = field(default_factory=lambda: time.monotonic() + LASTS)

    def for_who_saw(self, seen: bytes | None) -> tuple[int, Headers, bytes]:
        """Status, headers and body: 304 if its tag is among those that were seen."""
        if seen is None or self.status != 200 or not _matches(self.tag, seen):
            return self.status, self.headers, self.body
        return 304, [(name, value) for name, value in self.headers if name in _STANDS_IN_304], b""

    @property
    def tag(self) -> bytes | None:
        return next((value for name, value in self.headers if name == b"etag"), None)

    async def send(self, send: Send, seen: bytes | None) -> None:
        """Send it, or 304 if its tag is among those that were seen."""
        status, headers, body = self.for_who_saw(seen)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _matches(tag: bytes | None, seen: bytes) -> bool:
    tags = {one.strip().removeprefix(b"W/") for one in seen.split(b",")}
    return tag in tags or b"*" in tags


class Shelf:
    """Answers, the least recently used given up first. For one event loop."""

    def __init__(self) -> None:
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._about: dict[str, set[Key]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def get(self, key: Key) -> Answer | None:
        """What is kept under a key."""
        answer = self._answers.get(key)
        if answer is None:
            return None
        if time.monotonic() >= answer.until:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer, unless it is too large for that."""
        if len(answer.body) > LARGEST:
            return
        self._drop(key)
        self._answers[key] = answer
        self._about.setdefault(answer.adapter, set()).add(key)
        self._bytes += len(answer.body) + _AROUND
        while len(self._answers) > MOST or self._bytes > MOST_BYTES:
            self._drop(next(iter(self._answers)))

    def forget(self, adapters: Iterable[str] | None) -> None:
        """Give up every answer about these adapters (keys); None stands for all."""
        if adapters is None:
            self._answers.clear()
            self._about.clear()
            self._bytes = 0
            return
        for adapter in adapters:
            for key in tuple(self._about.get(adapter, ())):
                self._drop(key)

    def _drop(self, key: Key) -> None:
        answer = self._answers.pop(key, None)
        if answer is None:
            return
        self._bytes -= len(answer.body) + _AROUND
        keys = self._about[answer.adapter]
        keys.discard(key)
        if not keys:
            del self._about[answer.adapter]
