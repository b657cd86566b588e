"""Kept answers over the counter: written as soon as a look-up's last header is read, without a task or a route.

`Protocol` is uvicorn's own, which asks the worker's `Counter` first. The counter answers nothing but what is on the
shelf, for a caller who is known, by a name that the server has, while all of that is fresh; anything else, and anything
unusual about a request, takes the way through the application, which would give the same answer. What uvicorn's
protocol does is described by its own code, so its version is part of what is tested.

Source: https://github.com/encode/uvicorn/blob/master/uvicorn/protocols/http/httptools_impl.py
"""

import asyncio
import re
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from registry.http.answers import Desk, secret_of
from registry.http.observing import HEADER, Record, request_id_of
from registry.http.proxies import PEER

COUNTER = "counter"  # where it lies in the state of the application's lifespan
_PLAIN = re.compile(rb"/v1/adapters/[A-Za-z0-9._-]+/[A-Za-z0-9._-]+/resolve")
_UNUSUAL = frozenset({b"content-length", b"expect", b"transfer-encoding", b"upgrade"})
_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode()) for status in HTTPStatus
}
_END = b"\r\n"
Headers = list[tuple[bytes, bytes]]


class Counter:
    """Hands out kept answers. Of one worker, on its event loop."""

    def __init__(self, desk: Desk, record: Record, hosts: Collection[str]) -> None:
        self._desk = desk
        self._record = record
        self._hosts = frozenset(host.lower().encode() for host in hosts)

    def answer(self, url: bytes, headers: Headers, *, client: Any, always: Headers) -> list[bytes] | None:
        """The answer to a GET, as pieces of bytes that begin with the status line; None if it is not to be had here.

        `always` are headers that every answer has.
        """
        started = time.perf_counter()
        path, _, query = url.partition(b"?")
        given = dict(headers)
        if len(given) != len(headers) or not _PLAIN.fullmatch(path) or not self._is_usual(given):
            return None
        secret = secret_of(given.get(b"authorization", b""))
        known = self._desk.known(secret) if secret else None
        kept = self._desk.shelf.get((known.readable, path, query)) if known else None
        if known is None or kept is None:
            return None
        status, own, body = kept.for_who_saw(given.get(b"if-none-match"))
        request_id = request_id_of(headers)
        state = {"caller": known.caller, "request_id": request_id.decode()}
        scope = {"method": "GET", "path": path.decode(), "client": client, "state": state}
        pieces = [_STATUS_LINES[status]]
        for name, value in (*always, *own, (HEADER, request_id)):
            pieces += (name, b": ", value, _END)
        self._record.began()
        self._record.ended(scope, status, seconds=time.perf_counter() - started)
        return [*pieces, _END, body]

    def _is_usual(self, given: dict[bytes, bytes]) -> bool:
        stays = given.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        return (
            stays and given.get(b"host", b"").partition(b":")[0].lower() in self._hosts and _UNUSUAL.isdisjoint(given)
        )


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a counter in front of the application, and the address that a connection comes from."""

    _handed_out = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own is so
        super().connection_made(transport)
        self.app_state = {**self.app_state, PEER: self.client}

    def on_headers_complete(self) -> None:
        self._handed_out = self._is_free() and self._hand_out()
        if not self._handed_out:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._handed_out:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._handed_out:
            super().on_message_complete()

    def _is_free(self) -> bool:
        """Whether an answer may be written now: no other one is under way, nothing is held back."""
        idle = self.cycle is None or self.cycle.response_complete
        # Behind a proxy, who the client is stands in headers that the application's own room reads.
        return idle and not self.pipeline and not self.flow.write_paused and not self.config.proxy_headers

    def _hand_out(self) -> bool:
        counter: Counter | None = self.app_state.get(COUNTER)
        parser = self.parser
        if counter is None or parser.get_method() != b"GET" or parser.get_http_version() != "1.1":
            return False
        always = self.server_state.default_headers
        pieces = counter.answer(self.url, self.headers, client=self.client, always=always)
        if pieces is None:
            return False
        self.transport.write(b"".join(pieces))
        self.on_response_complete()
        return True
