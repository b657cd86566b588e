"""/v1/collections: removing what nothing refers to. And purging a version, or an adapter, at once."""

from dataclasses import asdict
from datetime import timedelta

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from registry.http import job_schemas as schemas
from registry.http.access import Asked
from registry.http.jobs import accepted
from registry.http.paths import Text, Words, name_of, version_of
from registry.http.schemas import documented
from registry.service.collecting import GRACE, LONGEST_GRACE

routes = APIRouter(prefix="/v1")


class CollectionBody(BaseModel):
    """What is to be removed: what nothing has referred to for `grace` seconds."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"grace": 86400, "dry_run": True}]})

    grace: FiniteFloat = Field(
        default=GRACE.total_seconds(), ge=0, le=LONGEST_GRACE.total_seconds(), description="seconds"
    )
    dry_run: bool = False


class PurgeBody(BaseModel):
    """Why, and whether even what an alias points at."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "a customer's data"}]})

    reason: Words = Field(min_length=1)
    force: bool = Field(default=False, description="even if aliases lead there")


@routes.post(
    "/collections",
    operation_id="collections_submit",
    tags=["jobs"],
    status_code=202,
    summary="Remove stored bytes that nothing refers to",
    responses=documented(schemas.Accepted, 400, 403, 429, status=202),
)
def collect(registry: Asked, body: CollectionBody) -> JSONResponse:
    return accepted(registry.submit_collection(grace=timedelta(seconds=body.grace), dry_run=body.dry_run))


@routes.post(
    "/adapters/{team}/{name}/purge",
    operation_id="adapters_purge",
    tags=["adapters"],
    summary="Delete an adapter and all of its bytes that nobody else has, at once",
    responses=documented(schemas.Purge, 400, 403, 404, 409),
)
def purge_adapter(registry: Asked, team: str, name: str, body: PurgeBody) -> JSONResponse:
    return JSONResponse(asdict(registry.purge_adapter(name_of(team, name), reason=body.reason, force=body.force)))


@routes.post(
    "/adapters/{team}/{name}/versions/{version}/purge",
    operation_id="versions_purge",
    tags=["versions"],
    summary="Purge a version: its bytes go at once, its line stays",
    responses=documented(schemas.Purge, 400, 403, 404, 409),
)
def purge(registry: Asked, team: str, name: str, version: Text, body: PurgeBody) -> JSONResponse:
    return JSONResponse(asdict(registry.purge(version_of(team, name, version), reason=body.reason, force=body.force)))
