"""Where large files are sent to, in parts or whole, and verified.

Clients show no token where they send bytes. So these addresses are capabilities: for these parts of this upload, for
an hour, while the token that asked for them stands and its owner may write to the team.
"""

import asyncio
import time
from typing import Annotated, Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from registry.domain.errors import NotAuthenticated, UploadBusy
from registry.domain.records import Upload
from registry.http.capabilities import Capabilities
from registry.http.hub import bodies
from registry.http.hub.origin import origin_of
from registry.http.hub.routing import Call, HubRoute
from registry.http.part_run import PartRun
from registry.http.paths import Sha256
from registry.http.receiving import receive
from registry.http.verifying import Verifier
from registry.service import Registry
from registry.service.arrivals import URL_SECONDS, Arrival

LFS = "/{team}/{name}.git/info/lfs/objects"
STREAMED = "/api/lfs/"  # paths of PUT whose bodies are counted where they go
_PARTS, _COMPLETION = "lfs parts", "lfs completion"
# What an address grants stands in its query, which no log has.
_PATHS = {_PARTS: f"{STREAMED}parts", _COMPLETION: f"{STREAMED}completion"}
_PATIENCE = 100.0  # seconds that verifying is waited for; proxies give up after 120
_PAUSE = 0.5


class LargeFile(BaseModel):
    """A file by its sha256."""

    oid: Sha256
    size: Annotated[int, Field(ge=0)]


class _SentPart(BaseModel):
    partNumber: int


class Sent(BaseModel):
    """What a client says when it has sent all parts; what really came is known to the store."""

    oid: Sha256
    parts: list[_SentPart]


def parts_address(call: Call, upload: Upload, first: int, last: int) -> str:
    """Where the bytes of these parts are PUT, one after the other."""
    return _address(call, _PARTS, upload, first=first, last=last)


def completion_address(call: Call, upload: Upload) -> str:
    """Where a client POSTs that all parts were sent."""
    return _address(call, _COMPLETION, upload)


def verification_address(call: Call, upload: Upload) -> str:
    """Where a client POSTs, with its token, what it takes the file to be."""
    path = f"/{call['team']}/{call['name']}.git/info/lfs/objects/verify"
    return f"{origin_of(call.request)}{path}?upload={upload.id}"


def _address(call: Call, purpose: str, upload: Upload, **claims: int) -> str:
    capabilities: Capabilities = call.request.app.state.capabilities
    whose = {"upload": upload.id, "token": call.registry.caller.token}
    grant = capabilities.sign(purpose, {**claims, **whose}, seconds=URL_SECONDS)
    return f"{origin_of(call.request)}{_PATHS[purpose]}?grant={grant}"


async def _allowed(call: Call, purpose: str) -> tuple[Registry, dict[str, Any]]:
    """What an address grants, and the registry with the rights that whoever asked for it has now."""
    capabilities: Capabilities = call.request.app.state.capabilities
    claims = capabilities.read(purpose, call.request.query_params.get("grant", ""))
    try:
        caller = await run_in_threadpool(call.registry.caller_of, claims["token"])
    except NotAuthenticated:
        raise HTTPException(403, "the token that asked for this address stands no more") from None
    call.request.state.caller = caller
    return call.registry.on_behalf_of(caller), claims


async def put(call: Call) -> Response:
    """The bytes of some parts; they are there when this is answered."""
    registry, claims = await _allowed(call, _PARTS)
    try:
        run = await run_in_threadpool(PartRun, registry, claims["upload"], first=claims["first"], last=claims["last"])
        try:
            await receive(call.request.stream(), run.write)
            await run_in_threadpool(run.finish)
        finally:
            run.close()
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is left to be answered
    except UploadBusy as error:
        raise HTTPException(503, str(error)) from error  # clients try that again
    return Response(headers={"ETag": f'"{claims["upload"]}.{claims["first"]}"'})


async def complete(call: Call) -> Response:
    """All parts were sent: verifying begins."""
    registry, claims = await _allowed(call, _COMPLETION)
    sent = await bodies.read(call, Sent)
    upload = _expected(await run_in_threadpool(registry.upload, claims["upload"]), sent.oid)
    count = -(-upload.size // upload.part_size)
    if {part.partNumber for part in sent.parts} != set(range(1, count + 1)):
        raise HTTPException(400, f"the parts 1 to {count} were to be sent")
    verifier: Verifier = call.request.app.state.verifier
    await verifier.complete(registry, upload.id)
    return JSONResponse({})


async def verify(call: Call) -> Response:
    """Answered when every byte was read and hashed: then the team has the file."""
    wanted = await bodies.read(call, LargeFile)
    verifier: Verifier = call.request.app.state.verifier
    arrival = await run_in_threadpool(call.registry.upload, call.request.query_params.get("upload", ""))
    upload = _expected(arrival, wanted.oid)
    end = time.monotonic() + _PATIENCE
    while not arrival.done:
        if time.monotonic() > end:
            raise HTTPException(503, "it is still being verified: ask again", headers={"Retry-After": "5"})
        arrival = await verifier.complete(call.registry, upload.id)
        await asyncio.sleep(0 if arrival.done else _PAUSE)
    if upload.size != wanted.size:
        raise HTTPException(400, f"sha256:{upload.sha256} has {upload.size} bytes, not {wanted.size}")
    return JSONResponse({})


def _expected(arrival: Arrival, oid: str) -> Upload:
    """The upload, if it is of that file. Raises HTTPException 400."""
    upload = arrival.upload
    if upload is None or upload.sha256 != oid:
        raise HTTPException(400, f"this address is not for sha256:{oid}")
    return upload


routes = (
    HubRoute("PUT", _PATHS[_PARTS], put, public=True),
    HubRoute("POST", _PATHS[_COMPLETION], complete, public=True),
    HubRoute("POST", f"{LFS}/verify", verify),
)
