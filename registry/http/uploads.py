"""Uploads: a file comes in parts, through this server or straight to the store, and counts when it was verified."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field, FiniteFloat
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from registry.http.access import Asked
from registry.http.paths import Sha256, Text
from registry.http.receiving import receive
from registry.http.schemas import DIGITS, Shape, documented, example
from registry.http.verifying import Verifier
from registry.service.arrivals import Arrival, State
from registry.service.uploads import KEPT

routes = APIRouter(prefix="/v1/uploads", tags=["uploads"])

_PART = {"number": 1, "size": 1000, "there": False, "url": "/v1/uploads/upload-0123/parts/1"}


class NewUpload(BaseModel):
    """A file that a team is to have."""

    model_config = example(team="acme", sha256=DIGITS, size=1000) | {"strict": True}

    team: Text
    sha256: Sha256
    size: Annotated[int, Field(ge=0, description="bytes")]


class PartDocument(Shape):
    """A part: the bytes after those of the parts before it. `url` takes it by PUT; null when it is there."""

    model_config = example(**_PART)

    number: int
    size: int
    there: bool
    url: str | None


class Progress(Shape):
    """Bytes that were verified, of how many."""

    model_config = example(done=524288000, of=73400320000)

    done: int
    of: int


class UploadDocument(Shape):
    """How far an upload is. `id` is null when the team had the file before; `progress` is that of verifying."""

    model_config = example(id="upload-0123", state="open", parts=[_PART], progress=None)

    id: str | None
    state: Annotated[str, Field(pattern="^(open|verifying|done)$")]
    parts: list[PartDocument]
    progress: Progress | None


@routes.post(
    "",
    operation_id="uploads_begin",
    summary="Begin to send a file, or go on with it",
    responses=documented(UploadDocument, 400, 403, 404, 413, 507),
)
def begin(registry: Asked, new: NewUpload) -> UploadDocument:
    """`done` at once when the team has the file. An upload that the same caller didn't finish is given again."""
    return _document(registry.begin_upload(new.team, new.sha256, new.size))


class Expiry(BaseModel):
    """Uploads of before how long are forgotten."""

    model_config = example(days=7) | {"extra": "forbid"}

    days: Annotated[FiniteFloat, Field(ge=0, le=36_500)] = KEPT.days


class Expired(Shape):
    """How many uploads, and leavings of some, were forgotten."""

    model_config = example(expired=3)

    expired: int


@routes.post(
    "/expire",
    operation_id="uploads_expire",
    summary="Forget uploads that nobody finished; for operators",
    responses=documented(Expired, 400, 403),
)
def expire(registry: Asked, body: Expiry) -> Expired:
    """A server does so every hour by itself, after seven days."""
    return Expired(expired=registry.expire_uploads(timedelta(days=body.days)))


@routes.get(
    "/{upload_id}",
    operation_id="uploads_show",
    summary="Which parts are there and where the others go, or how far verifying is",
    responses=documented(UploadDocument, 404),
)
def show(registry: Asked, upload_id: Text) -> UploadDocument:
    """When verifying has found something wrong, the answer is that error."""
    return _document(registry.upload(upload_id))


@routes.delete(
    "/{upload_id}",
    operation_id="uploads_abandon",
    status_code=204,
    summary="Give an upload up",
    responses=documented(None, 404, status=204),
)
def abandon(registry: Asked, upload_id: Text) -> None:
    registry.abandon_upload(upload_id)


@routes.post(
    "/{upload_id}/complete",
    operation_id="uploads_complete",
    summary="Verify what came, and let the team have it",
    responses=documented(UploadDocument, 404, 409, 507)
    | {202: {"model": UploadDocument, "description": "it takes a while: ask for the upload until it is done"}},
)
async def complete(request: Request, response: Response, registry: Asked, upload_id: Text) -> UploadDocument:
    """Every byte is read and hashed first. May be repeated."""
    verifier: Verifier = request.app.state.verifier
    document = _document(await verifier.complete(registry, upload_id))
    if document.state != State.DONE:
        response.status_code = 202
    return document


@routes.put(
    "/{upload_id}/parts/{number}",
    operation_id="uploads_put_part",
    status_code=204,
    summary="Send a part",
    responses=documented(None, 400, 404, 408, 409, 507, status=204),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def put_part(
    request: Request, registry: Asked, upload_id: Text, number: Annotated[int, Path(ge=1, le=10_000)]
) -> Response:
    """The body is the part's bytes. It is there when this is answered; sent again, it is replaced."""
    part = await run_in_threadpool(registry.open_part, upload_id, number)
    try:
        await receive(request.stream(), part.write)
        await run_in_threadpool(part.finish)
    except ClientDisconnect:
        pass  # nobody is left to be answered
    finally:
        part.close()
    return Response(status_code=204)


def _document(arrival: Arrival) -> UploadDocument:
    upload, progress = arrival.upload, None
    if upload is None:
        return UploadDocument(id=None, state=arrival.state, parts=[], progress=None)
    here = f"/v1/uploads/{upload.id}/parts"
    parts = [
        PartDocument(
            number=part.number,
            size=part.size,
            there=part.there,
            url=None if part.there else part.url or f"{here}/{part.number}",
        )
        for part in arrival.parts
    ]
    if arrival.state is State.VERIFYING:
        progress = Progress(done=upload.verified, of=upload.size)
    return UploadDocument(id=upload.id, state=arrival.state, parts=parts, progress=progress)
