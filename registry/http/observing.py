"""What is seen of every request: its id, its figures, and one line of log, as JSON.

A line has no query, no header and no body: tokens and addresses that grant access may be in them. Lines and figures
are written several times a second, those of many requests together: alone, each would cost more than a kept answer.
"""

import asyncio
import json
import logging
import os
import re
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.http.answers import is_look_up
from registry.http.metrics import Metrics

_log = logging.getLogger("adapters.access")
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
HEADER = b"x-request-id"
_LOOK_UP = "/v1/adapters/{team}/{name}/resolve"
_UNMATCHED = "unmatched"
_WRITE_EVERY = 0.1  # seconds


class Record:
    """Figures and lines of one worker, on its event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lines: list[str] = []
        self._due: asyncio.TimerHandle | None = None

    def began(self) -> None:
        """A request came."""
        self._metrics.in_flight += 1

    def ended(self, scope: Scope, status: int, *, seconds: float) -> None:
        """A request was answered."""
        self._metrics.in_flight -= 1
        route = template_of(scope)
        self._metrics.count(scope["method"], route, status, seconds=seconds)
        if _log.isEnabledFor(logging.INFO):
            self._lines.append(_line(scope, route, status, seconds=seconds))
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(_WRITE_EVERY, self.write)

    def write(self) -> None:
        """Write what is there, a line each."""
        self._due = None
        self._metrics.flush()
        if self._lines:
            lines, self._lines = self._lines, []
            _log.info("\n".join(lines))


class Observed:
    """Middleware around everything else."""

    def __init__(self, app: ASGIApp, record: Record) -> None:
        self._app = app
        self._record = record

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        started = time.perf_counter()
        status = 500  # what is answered to an error that nobody foresaw

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id)]
            await send(message)

        self._record.began()
        try:
            await self._app(scope, receive, noted)
        finally:
            self._record.ended(scope, status, seconds=time.perf_counter() - started)


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The id that a request came with, or a new one."""
    for name, value in headers:
        if name == HEADER and _ID.fullmatch(value):
            return bytes(value)
    return os.urandom(8).hex().encode()


def template_of(scope: Scope) -> str:
    """The template of the route that a request was for; no names are in it."""
    route = scope.get("route")
    if route is not None:
        return str(getattr(route, "path", _UNMATCHED))
    return _LOOK_UP if is_look_up(scope["path"]) else _UNMATCHED


def _line(scope: Scope, route: str, status: int, *, seconds: float) -> str:
    caller = scope["state"].get("caller")
    fields = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "request_id": scope["state"]["request_id"],
        "method": scope["method"],
        "path": scope["path"],
        "route": route,
        "status": status,
        "ms": round(seconds * 1e3, 2),
        "client": scope["client"][0] if scope.get("client") else None,
        "caller": caller.name if caller else None,
    }
    if trace_id := scope["state"].get("trace_id"):
        fields["trace_id"] = trace_id
    return json.dumps(fields)
