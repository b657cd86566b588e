"""/v1/watch: events as they happen, as a stream (SSE) or by long polling.

One task a worker asks the database for its newest cursor, however many clients wait. A client is asked for its rights
again each time that it gets something, so a revoked token ends its stream.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import asyncio
import json
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from types import FrameType
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.documents import event_document
from registry.domain.errors import AdaptersError, WrongUsage
from registry.http import gate_schemas as schemas
from registry.http.access import Asked, Doorkeeper, address_of
from registry.http.schemas import documented
from registry.service import Registry
from registry.service.watching import Watched

ASK_EVERY = 0.25  # seconds between two looks at the newest cursor
BEAT_EVERY = 15.0  # seconds after which a silent stream says that it lives
LONGEST_WAIT = 60.0  # seconds that a long poll may ask for

routes = APIRouter(prefix="/v1", tags=["watch"])
_ANSWERS = documented(schemas.Watched, 400)
_ANSWERS[200]["content"] = {
    "text/event-stream": {"schema": {"type": "string"}, "example": "id: 42\nevent: alias.moved\ndata: {…}\n\n"}
}


class Tail:
    """The newest cursor, and those who wait for a newer one. Of one worker, on its event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._moved = asyncio.Condition()
        self._waiting = 0
        self._newest = 0
        self._task = asyncio.create_task(self._follow())
        self.closing = False

    async def wait(self, cursor: int, seconds: float) -> bool:
        """Wait until there is an event after a cursor; False if there was none in so many seconds."""
        self._waiting += 1
        try:
            async with self._moved:
                ready = self._moved.wait_for(lambda: self._newest > cursor or self.closing)
                with suppress(TimeoutError):
                    await asyncio.wait_for(ready, seconds)
        finally:
            self._waiting -= 1
        return self._newest > cursor

    async def close(self) -> None:
        """Let everybody go who waits."""
        self._task.cancel()
        await self._release()

    def release_on_signals(self) -> None:
        """Let go of everybody who waits as soon as the process is asked to end: a server waits for its answers first.

        The handlers that are there go on to do what they do. Only a process's main thread may do this.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)

            def handle(sent: int, frame: FrameType | None, before: Any = before) -> None:
                loop.call_soon_threadsafe(lambda: loop.create_task(self._release()))
                if callable(before):
                    before(sent, frame)

            signal.signal(number, handle)

    async def _release(self) -> None:
        self.closing = True
        async with self._moved:
            self._moved.notify_all()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(ASK_EVERY)
            if not self._waiting:
                continue
            with suppress(AdaptersError):  # a database that is away for a while: whoever waits goes on waiting
                newest = await run_in_threadpool(self._registry.newest_cursor)
                if newest != self._newest:
                    self._newest = newest
                    async with self._moved:
                        self._moved.notify_all()


@routes.get(
    "/watch",
    operation_id="watch",
    summary="Events as they happen",
    responses=_ANSWERS,
)
async def watch(
    request: Request,
    registry: Asked,
    cursor: Annotated[int | None, Query(ge=0, description="the last event that was seen; none: from now on")] = None,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds that a long poll waits")] = 30.0,
    last_event_id: Annotated[str | None, Header(description="where a broken stream goes on")] = None,
) -> Response:
    start = await _start(registry, cursor, last_event_id)
    if "application/json" in request.headers.get("accept", ""):
        return JSONResponse(
            _document(await _poll(request, registry, start, wait)), headers={"Cache-Control": "no-store"}
        )
    first = await run_in_threadpool(registry.watch, start)  # a wrong cursor is refused before the stream begins
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(request, first), media_type="text/event-stream", headers=headers)


async def _start(registry: Registry, cursor: int | None, last_event_id: str | None) -> int:
    if last_event_id is not None:
        if not (last_event_id.isascii() and last_event_id.isdigit()):
            raise WrongUsage("Last-Event-ID is no cursor")
        return int(last_event_id[:20])
    return await run_in_threadpool(registry.newest_cursor) if cursor is None else cursor


async def _poll(request: Request, registry: Registry, cursor: int, wait: float) -> Watched:
    """What came after a cursor, or what comes within so many seconds."""
    tail: Tail = request.app.state.tail
    end = asyncio.get_running_loop().time() + wait
    while True:
        found = await run_in_threadpool(registry.watch, cursor)
        left = end - asyncio.get_running_loop().time()
        if found.events or (found.cursor == cursor and (left <= 0 or tail.closing)):
            return found
        if found.cursor == cursor:
            await tail.wait(cursor, left)
        cursor = found.cursor


async def _stream(request: Request, found: Watched) -> AsyncIterator[str]:
    tail: Tail = request.app.state.tail
    yield f": from {found.cursor}\n\n"
    while not tail.closing:
        for event in found.events:
            yield f"id: {event.cursor}\nevent: {event.kind}\ndata: {json.dumps(event_document(event))}\n\n"
        cursor = found.cursor
        if not await tail.wait(cursor, BEAT_EVERY):
            yield f": at {cursor}\n\n"
        try:
            found = await _again(request, cursor)
        except AdaptersError as error:  # the token was revoked, or the database is away: the client comes again
            yield f"event: error\ndata: {json.dumps({'error': error.code, 'message': error.message})}\n\n"
            return


async def _again(request: Request, cursor: int) -> Watched:
    """What came after a cursor, for whoever the token of the request belongs to by now."""
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    registry: Registry = request.app.state.registry
    secret = request.headers["authorization"].partition(" ")[2]
    known = await doorkeeper.admit(secret, address_of(request.scope))
    return await run_in_threadpool(registry.on_behalf_of(known.caller).watch, cursor)


def _document(found: Watched) -> dict[str, Any]:
    return {"events": [event_document(event) for event in found.events], "cursor": found.cursor}
