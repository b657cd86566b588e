"""Look-ups: what a serving stack must know before it loads a version, one or many at once.

A look-up's answer is tagged by its bytes, which hold the version's status. `registry.http.answers` keeps it while
nothing changes, and tells a client whose copy is still right so.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.engines import engine_of
from registry.domain.errors import AdaptersError
from registry.domain.job_documents import error_document
from registry.domain.jobs import CompositionOrder
from registry.domain.reference import AdapterName, Reference, Selector
from registry.http.access import Asked
from registry.http.compositions import RecipeBody, Seconds
from registry.http.errors import status_of
from registry.http.job_schemas import Accepted
from registry.http.jobs import accepted, until_ended
from registry.http.look_up_schemas import Resolution, Resolutions
from registry.http.paths import MaxRank, Text, reference_of
from registry.http.schemas import documented
from registry.service import Registry

routes = APIRouter(prefix="/v1", tags=["resolve"])
MOST = 1000  # references in one batch
# What a digest or a commit stands for never changes. Whether it is revoked may, so nobody keeps it for longer.
PINNED = "private, max-age=300, immutable"
MOVING = "private, no-cache"
_Engine = Annotated[
    Text | None, Query(description="vllm, sglang, lorax, tgi or llama.cpp: the answer says what it makes of it")
]
_Base = Annotated[Text | None, Query(description="the base that the caller serves: a name or sha256:<hex>")]


class BatchBody(BaseModel):
    """References to look up at once, and what the caller serves."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"refs": ["acme/support@production", "acme/german@v2"]}]}
    )

    refs: list[Text] = Field(min_length=1, max_length=MOST)
    engine: Text | None = None
    max_rank: int | None = Field(default=None, ge=1, le=2**31 - 1)
    base: Text | None = None


class BlendBody(RecipeBody):
    """A blend to look up: the version that it has, or a job that makes one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"expression": "0.5*acme/a + 0.5*acme/b", "into": "acme/both", "wait": 10}]},
    )

    wait: Seconds = 0.0
    engine: Text | None = None
    max_rank: int | None = Field(default=None, ge=1, le=2**31 - 1)
    base: Text | None = None


@routes.get(
    "/adapters/{team}/{name}/resolve",
    operation_id="resolve",
    summary="What a serving stack must know before it loads a version",
    responses=documented(Resolution, 400, 404, 409, 410)
    | {304: {"description": "the copy that If-None-Match names is still right"}},
)
def resolve(
    request: Request,
    registry: Asked,
    team: str,
    name: str,
    ref: Annotated[Text | None, Query(description="v3, production, a commit or sha256:<hex>; none: main")] = None,
    engine: _Engine = None,
    max_rank: MaxRank = None,
    base: _Base = None,
) -> Response:
    reference = reference_of(team, name, ref)
    wanted = engine_of(engine) if engine else None
    found = registry.resolve(reference, max_rank=max_rank, base=base, engine=wanted)
    body = json.dumps(with_addresses(found, request.app.state.settings.public_url), separators=(",", ":")).encode()
    headers = {
        "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        "Cache-Control": PINNED if reference.selector in (Selector.DIGEST, Selector.COMMIT) else MOVING,
        "Vary": "Authorization",
    }
    return Response(body, media_type="application/json", headers=headers)


@routes.post(
    "/resolve",
    operation_id="resolve_many",
    summary="Many look-ups at once, each with its own answer or error; or a blend, made if it isn't there",
    responses=documented(Resolutions | Resolution, 400, 403, 404, 409, 410, 429)
    | {202: {"model": Accepted, "description": "of a blend: the job that makes it"}},
)
async def resolve_many(request: Request, registry: Asked, body: BatchBody | BlendBody) -> JSONResponse:
    """A blend takes the right to write to its target."""
    wanted = engine_of(body.engine) if body.engine else None
    public_url = request.app.state.settings.public_url

    def look_up(reference: Reference) -> dict[str, Any]:
        found = registry.resolve(reference, max_rank=body.max_rank, base=body.base, engine=wanted)
        return with_addresses(found, public_url)

    if isinstance(body, BatchBody):
        answers = await run_in_threadpool(lambda: [_answer(text, look_up) for text in body.refs])
        return JSONResponse({"answers": answers})
    return await _blend(request, registry, body, look_up)


async def _blend(
    request: Request, registry: Registry, body: BlendBody, look_up: Callable[[Reference], dict[str, Any]]
) -> JSONResponse:
    into = AdapterName.parse(body.into)
    submitted = await run_in_threadpool(lambda: registry.submit(CompositionOrder(into, body.parsed())))
    number = submitted.version.number if submitted.version else None
    if submitted.job is not None:
        job = await until_ended(request, registry, submitted.job, body.wait)
        if job.version is None:
            return accepted(job)
        number = job.version
    pin = Reference(into, Selector.VERSION, str(number))
    return JSONResponse(await run_in_threadpool(look_up, pin))


def _answer(ref: str, look_up: Callable[[Reference], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ref": ref, "status": 200, "answer": look_up(Reference.parse(ref)), "error": None}
    except AdaptersError as error:
        return {"ref": ref, "status": status_of(error), "answer": None, "error": error_document(error)}


def with_addresses(document: dict[str, Any], public_url: str) -> dict[str, Any]:
    """A look-up's answer, each of its files with the address where it stays."""
    folder = f"{public_url}/v1/adapters/{document['name']}/versions/{document['version']}/files"
    files = [{**file, "url": f"{folder}/{quote(file['path'])}"} for file in document["files"]]
    return {**document, "files": files}
