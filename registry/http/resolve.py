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
from starlette.responses import Response

from registry.domain.engines import engine_of
from registry.domain.errors import AdaptersError
from registry.domain.reference import Reference, Selector
from registry.http.access import Asked
from registry.http.errors import document_of, status_of
from registry.http.look_up_schemas import Resolution, Resolutions
from registry.http.paths import MaxRank, Text, reference_of
from registry.http.schemas import documented

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
    summary="Many look-ups at once, each with its own answer or error",
    responses=documented(Resolutions, 400),
)
def resolve_many(request: Request, registry: Asked, body: BatchBody) -> JSONResponse:
    wanted = engine_of(body.engine) if body.engine else None
    public_url = request.app.state.settings.public_url

    def look_up(text: str) -> dict[str, Any]:
        reference = Reference.parse(text)
        found = registry.resolve(reference, max_rank=body.max_rank, base=body.base, engine=wanted)
        return with_addresses(found, public_url)

    return JSONResponse({"answers": [_answer(text, look_up) for text in body.refs]})


def _answer(ref: str, look_up: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    try:
        return {"ref": ref, "status": 200, "answer": look_up(ref), "error": None}
    except AdaptersError as error:
        return {"ref": ref, "status": status_of(error), "answer": None, "error": document_of(error)}


def with_addresses(document: dict[str, Any], public_url: str) -> dict[str, Any]:
    """A look-up's answer, each of its files with the address where it stays."""
    folder = f"{public_url}/v1/adapters/{document['name']}/versions/{document['version']}/files"
    files = [{**file, "url": f"{folder}/{quote(file['path'])}"} for file in document["files"]]
    return {**document, "files": files}
