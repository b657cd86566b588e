"""Answers of look-ups, kept as bytes while nothing changes, and 304 for those who have them already.

An answer is kept under what its caller may read and what was asked, word for word, and under the mark that the
database had before it was computed. It is right as long as the mark is the same: after an alias has moved, every
worker of the machine answers anew. A kept answer costs no thread, no query and no serialisation.

This room knows bytes, headers and marks; what an answer says is computed further in.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.domain.rights import Caller, Readable
from registry.http.access import Doorkeeper
from registry.sql.changes import Mark

MOST = 10_000  # answers
MOST_BYTES = 64 * 2**20  # of all of them
_LARGEST = 2**20  # bytes of one answer that is kept
_BEARER = b"bearer "
_STANDS_IN_304 = frozenset({b"etag", b"cache-control", b"vary"})
Key = tuple[Readable | None, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered with 200. `until` is when it may no longer be trusted, on the monotonic clock."""

    headers: list[tuple[bytes, bytes]]
    body: bytes
    tag: bytes
    until: float

    async def send(self, send: Send, seen: bytes | None) -> None:
        """Send it, or 304 if its tag is among those that were seen."""
        if seen is not None and _matches(self.tag, seen):
            short = [(name, value) for name, value in self.headers if name in _STANDS_IN_304]
            await send({"type": "http.response.start", "status": 304, "headers": short})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
        await send({"type": "http.response.body", "body": self.body})


def _matches(tag: bytes, seen: bytes) -> bool:
    tags = {one.strip().removeprefix(b"W/") for one in seen.split(b",")}
    return tag in tags or b"*" in tags


class Shelf:
    """The answers under one mark, the least recently used given up first. For one event loop."""

    def __init__(self) -> None:
        self._mark: Mark | None = None
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._bytes = 0

    def get(self, key: Key, mark: Mark) -> Answer | None:
        """What is kept and still right."""
        if mark != self._mark:
            self._clear(mark)
            return None
        answer = self._answers.get(key)
        if answer is None or time.monotonic() >= answer.until:
            return None
        self._answers.move_to_end(key)
        return answer

    def put(self, key: Key, answer: Answer, mark: Mark) -> None:
        """Keep an answer that was computed after `mark` was read."""
        if self._mark != mark:
            self._clear(mark)
        if len(answer.body) > _LARGEST:
            return
        replaced = self._answers.pop(key, None)
        self._bytes += len(answer.body) - (len(replaced.body) if replaced else 0)
        self._answers[key] = answer
        while len(self._answers) > MOST or self._bytes > MOST_BYTES:
            _, oldest = self._answers.popitem(last=False)
            self._bytes -= len(oldest.body)

    def _clear(self, mark: Mark) -> None:
        self._answers.clear()
        self._bytes = 0
        self._mark = mark


class Answers:
    """Middleware in front of the routes; every request but a look-up passes untouched."""

    def __init__(self, app: ASGIApp, doorkeeper: Doorkeeper) -> None:
        self._app = app
        self._doorkeeper = doorkeeper
        self._shelf = Shelf()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not is_look_up(scope["path"]):
            await self._app(scope, receive, send)
            return
        secret, seen = _credentials(scope["headers"])
        changes = scope["app"].state.registry.changes
        # Read first: whatever is computed from now on is at least as new as this mark.
        mark, until = changes.mark(), time.monotonic() + changes.lasts
        asked = (scope["raw_path"], scope["query_string"])
        caller = self._doorkeeper.remembered(secret) if secret else None
        if caller and mark is not None and (kept := self._shelf.get((caller.readable, *asked), mark)):
            scope["state"]["caller"] = caller
            await kept.send(send, seen)
            return
        taken = _Taken(send, until)
        await self._app(scope, receive, taken)
        if taken.answer is not None:
            computed_for: Caller = scope["state"]["caller"]
            if mark is not None:
                self._shelf.put((computed_for.readable, *asked), taken.answer, mark)
            await taken.answer.send(send, seen)


def is_look_up(path: str) -> bool:
    """Whether a path is that of a look-up: /v1/adapters/{team}/{name}/resolve."""
    return path.endswith("/resolve") and path.startswith("/v1/adapters/") and path.count("/") == 5


def _credentials(headers: list[tuple[bytes, bytes]]) -> tuple[str | None, bytes | None]:
    secret = seen = None
    for name, value in headers:
        if name == b"authorization" and value[: len(_BEARER)].lower() == _BEARER:
            secret = value[len(_BEARER) :].strip().decode("latin-1")
        elif name == b"if-none-match":
            seen = value
    return secret, seen


class _Taken:
    """Where an answer of 200 is taken down instead of being sent; all others are passed on."""

    def __init__(self, send: Send, until: float) -> None:
        self._send = send
        self._until = until
        self._start: Message | None = None
        self._body = bytearray()
        self.answer: Answer | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self.answer = self._whole(self._start)

    def _whole(self, start: dict[str, Any] | Message) -> Answer:
        headers = [(bytes(name).lower(), bytes(value)) for name, value in start["headers"]]
        tag = next(value for name, value in headers if name == b"etag")
        return Answer(headers, bytes(self._body), tag, self._until)
