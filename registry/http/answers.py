"""Look-ups in front of the routes: answered with kept bytes while those are right, and 304 for whoever has them.

An answer is kept under what its caller may read and what was asked, until the registry's log tells of its adapter, or
of something that concerns all of them. `registry.http.freshness` makes sure of the log before any of it is used. A
kept answer costs no thread, no query and no serialisation; of those who ask for what isn't kept, one computes it.

What an answer says is computed further in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.domain.errors import AdaptersError
from registry.http.access import Doorkeeper, Known, address_of
from registry.http.errors import answer_of
from registry.http.freshness import Freshness
from registry.http.shelf import Answer, Key, Shelf
from registry.service import Registry
from registry.service.watching import News

_BEARER = b"bearer "
_KEPT = frozenset({200, 404, 409, 410})  # what the log will tell the end of: 404 ends when the adapter is pushed


@dataclass(eq=False, slots=True)
class _Computation:
    """An answer that is being computed; `stale` once something happened that it may not have seen."""

    adapter: str
    done: asyncio.Event = field(default_factory=asyncio.Event)
    stale: bool = False


class Desk:
    """What one worker keeps in mind: answers and callers, and how fresh they are."""

    def __init__(self, registry: Registry) -> None:
        self.freshness = Freshness(registry, self._hear)
        self.doorkeeper = Doorkeeper(registry, self.freshness)
        self.shelf = Shelf()
        self._first: dict[Key, _Computation] = {}
        self._running: set[_Computation] = set()

    def known(self, secret: str) -> Known | None:
        """The caller of a token, if it is known and all that is kept is fresh."""
        return self.doorkeeper.remembered(secret) if self.freshness.holds() else None

    async def found(self, key: Key) -> Answer | None:
        """What is kept; waits for whoever computes it already."""
        kept = self.shelf.get(key)
        if kept is None and (first := self._first.get(key)):
            await first.done.wait()
            await self.freshness.ensure()
            kept = self.shelf.get(key)
        return kept

    async def computed(self, key: Key, adapter: str, compute: Callable[[], Awaitable[Answer | None]]) -> Answer | None:
        """What `compute` says; kept, if nothing has happened to the adapter meanwhile."""
        computation = _Computation(adapter)
        self._running.add(computation)
        first = self._first.setdefault(key, computation)
        try:
            answer = await compute()
            if answer is not None and not computation.stale:
                self.shelf.put(key, answer)
            return answer
        finally:
            self._running.discard(computation)
            if first is computation:
                del self._first[key]
                computation.done.set()

    def _hear(self, news: News) -> None:
        self.shelf.forget(news.adapters)
        for computation in self._running:
            computation.stale |= news.adapters is None or computation.adapter in news.adapters
        if news.callers:
            self.doorkeeper.forget()


class Answers:
    """Middleware in front of the routes; every request but a look-up passes untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not is_look_up(scope["path"]):
            await self._app(scope, receive, send)
            return
        secret, seen = _credentials(scope["headers"])
        if secret is None:
            await self._app(scope, receive, send)
            return
        desk: Desk = scope["app"].state.desk
        try:
            known = desk.known(secret) or await desk.doorkeeper.admit(secret, address_of(scope))
            answer = await self._answer(desk, known, scope, receive, send)
        except (AdaptersError, HTTPException) as error:
            await answer_of(error)(scope, receive, send)
            return
        if answer is not None:
            await answer.send(send, seen)

    async def _answer(self, desk: Desk, known: Known, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        """What is kept, or what the routes say; None if they have sent something that isn't kept."""
        scope["state"]["caller"] = known.caller
        key = (known.readable, scope["raw_path"], scope["query_string"])
        if kept := await desk.found(key):
            return kept
        adapter = _adapter_of(scope["path"])

        async def compute() -> Answer | None:
            taken = _Taken(send)
            await self._app(scope, receive, taken)
            return taken.answer(adapter)

        return await desk.computed(key, adapter, compute)


def is_look_up(path: str) -> bool:
    """Whether a path is that of a look-up: /v1/adapters/{team}/{name}/resolve."""
    return path.endswith("/resolve") and path.startswith("/v1/adapters/") and path.count("/") == 5


def _adapter_of(path: str) -> str:
    """The key of the adapter that a look-up's path names."""
    _, _, _, team, name, _ = path.split("/")
    return f"{team}/{name}".lower()


def _credentials(headers: list[tuple[bytes, bytes]]) -> tuple[str | None, bytes | None]:
    secret = seen = None
    for name, value in headers:
        if name == b"authorization":
            secret = secret_of(value)
        elif name == b"if-none-match":
            seen = value
    return secret, seen


def secret_of(authorization: bytes) -> str | None:
    """The bearer token of a header's value."""
    if authorization[: len(_BEARER)].lower() != _BEARER:
        return None
    return authorization[len(_BEARER) :].strip().decode("latin-1")


class _Taken:
    """Where an answer that may be kept is taken down instead of being sent; all others are passed on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] in _KEPT:
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")

    def answer(self, adapter: str) -> Answer | None:
        """What was taken down, once the routes are done."""
        start: dict[str, Any] | Message | None = self._start
        if start is None:
            return None
        headers = [(bytes(name).lower(), bytes(value)) for name, value in start["headers"]]
        return Answer(adapter, start["status"], headers, bytes(self._body))
