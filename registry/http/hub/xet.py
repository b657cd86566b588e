"""The store that Xet's clients write to: xorbs (packs of chunks) and shards (how files are made of them).

A client asks for a token and gets back its own, with the address of the team's store, which has the team's epoch in
it (see registry.service.xorbs). Nothing is read here: downloads go over plain HTTP.

    POST {store}/v1/xorbs/default/{xorb}    keeps a xorb
    POST {store}/v2/shards                  makes files, and tells how far it is, a line at a time
    POST {store}/v1/shards                  the same with one answer in the end; its clients wait without a limit

What else clients may ask of such a store (what chunks others have, grants, telemetry) is optional: 404 is answered,
since some take another refusal for the end.

Source: https://huggingface.co/docs/xet/api, and xet-core, `openapi/cas.openapi.yaml`, `shard_upload_v2.rs`.
"""

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO
from weakref import WeakValueDictionary

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from registry.domain.errors import AdaptersError, Failure, QuotaExceeded
from registry.http.hub.origin import origin_of
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.targets import target
from registry.http.receiving import receive
from registry.http.verifying import Verifier
from registry.service.completion import Stopped

LASTS = 600  # seconds; then a client asks again, and hears of a new epoch
BEAT = 10.0  # seconds between two lines; clients give up after 300 without one, and proxies after 60
SENT_AT_ONCE = 4  # xorbs of a caller
KEPT_AT_ONCE = 4  # xorbs that are hashed, and brought to where they wait
_ENDING = "the server is ending; it goes on when this is sent again"
_FAILED = "the server failed; its log says why"


async def write_token(call: Call) -> Response:
    """The caller's own token, and the address of the team's store, if a commit may follow."""
    found = await run_in_threadpool(target, call, call["revision"])
    team = found.adapter.name.team
    epoch = await run_in_threadpool(call.registry.xorb_epoch, team)
    store = f"{origin_of(call.request)}/api/xet/{team}/{epoch}"
    token = call.request.headers["authorization"].partition(" ")[2].strip()
    until = int(time.time()) + LASTS
    headers = {
        "X-Xet-Cas-Url": store,
        "X-Xet-Access-Token": token,
        "X-Xet-Token-Expiration": str(until),
        "Cache-Control": "no-store",
    }
    return JSONResponse({"casUrl": store, "exp": until, "accessToken": token}, headers=headers)


async def absent(_call: Call) -> Response:
    """What this store doesn't have."""
    raise HTTPException(404, "there is no such call; files are read at /{repository}/resolve/{revision}/{path}")


class Slots:
    """How many xorbs a worker takes at once: some of each caller, and of those that are here a few.

    Clients send as many as they get rid of, up to 64. On the disk each takes 65 MiB, and on its way to S3 48 of memory.
    """

    def __init__(self) -> None:
        self._callers: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self.keeping = asyncio.Semaphore(KEPT_AT_ONCE)

    def of(self, caller: str) -> asyncio.Semaphore:
        """Those of a caller: whoever is slow makes nobody else wait."""
        return self._callers.setdefault(caller, asyncio.Semaphore(SENT_AT_ONCE))


async def keep_xorb(call: Call) -> Response:
    """A xorb; its client learns whether it was sent in vain."""
    slots: Slots = call.request.app.state.slots
    async with slots.of(call.registry.actor):
        held = await _received(call)
        try:
            async with slots.keeping:
                new = await run_in_threadpool(call.registry.keep_xorb, call["team"], call["xorb"], held)
        except QuotaExceeded as error:
            raise _too_much(error) from error
        finally:
            held.close()
    return JSONResponse({"was_inserted": new})


async def take_shard(call: Call) -> Response:
    """A shard, answered when its files are made; they are made also when nobody waits any more."""
    work = await _begun(call, lambda *_: None)
    try:
        await work
    except QuotaExceeded as error:
        raise _too_much(error) from error
    except Stopped:
        raise HTTPException(503, _ENDING) from None
    return JSONResponse({"result": 1})


async def take_shard_telling(call: Call) -> Response:
    """A shard, answered with how far its files are, a line at a time; the last line says how it ended."""
    progress = [0, 0]

    def tell(made: int, of: int) -> None:
        progress[:] = made, of

    work = await _begun(call, tell)
    unbuffered = {"X-Accel-Buffering": "no"}  # a proxy that holds lines back would give up waiting for more
    return StreamingResponse(_lines(work, progress), media_type="application/x-ndjson", headers=unbuffered)


async def _lines(work: asyncio.Future[None], progress: list[int]) -> AsyncIterator[bytes]:
    while not (await asyncio.wait({work}, timeout=BEAT))[0]:
        yield _line(type="validating", verified=progress[0], total=progress[1])
    yield _ending(work)


def _ending(work: asyncio.Future[None]) -> bytes:
    try:
        work.result()
    except AdaptersError as error:
        return _line(type="error", message=f"{error} {error.hint}".strip(), retryable=isinstance(error, Failure))
    except (Stopped, asyncio.CancelledError):
        return _line(type="error", message=_ENDING, retryable=True)
    except Exception:  # it is in the log
        return _line(type="error", message=_FAILED, retryable=False)
    return _line(type="result")


def _line(**event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":")).encode() + b"\n"


async def _begun(call: Call, tell: Callable[[int, int], None]) -> asyncio.Future[None]:
    """Begin to make the files of a shard, once it is here."""
    held, registry, team, epoch = await _received(call), call.registry, call["team"], call["epoch"]

    def make(stopping: Callable[[], bool]) -> None:
        def watch(made: int, of: int) -> None:
            tell(made, of)
            if stopping():
                raise Stopped

        with held:
            registry.take_shard(team, epoch, held, size=os.fstat(held.fileno()).st_size, watch=watch)

    verifier: Verifier = call.request.app.state.verifier
    return verifier.begin(make)


async def _received(call: Call) -> BinaryIO:
    """A body, in a file without a name."""
    held = await run_in_threadpool(tempfile.TemporaryFile)
    try:
        await receive(call.request.stream(), held.write)
        await run_in_threadpool(held.seek, 0)
    except ClientDisconnect:
        held.close()
        raise HTTPException(400, "the body is not whole") from None  # nobody is left to read it
    except BaseException:
        held.close()
        raise
    return held


def _too_much(error: QuotaExceeded) -> HTTPException:
    """As 507 clients would send it again for minutes."""
    return HTTPException(413, f"{error} {error.hint}")


_STORE = "/api/xet/{team}/{epoch}"

routes = (
    HubRoute("GET", "/api/models/{team}/{name}/xet-write-token/{revision}", write_token),
    HubRoute("POST", f"{_STORE}/v1/xorbs/default/{{xorb}}", keep_xorb),
    HubRoute("POST", f"{_STORE}/v1/shards", take_shard),
    HubRoute("POST", f"{_STORE}/v2/shards", take_shard_telling),
    # hf_xet before 1.6 has no versions in its paths, and before 1.1.6 other ones.
    HubRoute("POST", f"{_STORE}/xorbs/default/{{xorb}}", keep_xorb),
    HubRoute("POST", f"{_STORE}/shards", take_shard),
    HubRoute("POST", f"{_STORE}/xorb/default/{{xorb}}", keep_xorb),
    HubRoute(("POST", "PUT"), f"{_STORE}/shard/{{prefix}}/{{shard}}", take_shard),
    HubRoute(("GET", "HEAD", "POST", "PUT"), "/api/xet/{path:path}", absent, public=True),
)
