"""/v1/teams/{team}/quota: how much a team may keep, and what it has."""

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.quotas import Quota, account_document
from registry.http.access import Asked
from registry.http.paths import Text
from registry.http.schemas import Shape, documented, example

routes = APIRouter(prefix="/v1/teams/{team}/quota", tags=["teams"])
Limit = Annotated[int | None, Field(ge=0, le=2**62)]


class QuotaBody(BaseModel):
    """Limits; null, or leaving one out, is no limit."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"bytes": 10_000_000_000, "versions": 5000}]}
    )

    bytes: Limit = None
    versions: Limit = None
    adapters: Limit = None
    uploads: Limit = None


class Line(Shape):
    """What is used of a limit; a limit of null is none."""

    model_config = example(used=3, limit=100)

    used: int
    limit: int | None


class Account(Shape):
    """A team's limits and what it has; `incoming` are bytes of uploads that no commit holds yet."""

    model_config = example(
        team="acme",
        bytes={"used": 299_839, "limit": 10_000_000_000},
        versions={"used": 3, "limit": None},
        adapters={"used": 1, "limit": None},
        uploads={"used": 0, "limit": 20},
        incoming=0,
    )

    team: str
    bytes: Line
    versions: Line
    adapters: Line
    uploads: Line
    incoming: int


@routes.get("", operation_id="quotas_show", summary="A team's quota and usage", responses=documented(Account, 404))
def show(registry: Asked, team: Text) -> JSONResponse:
    return JSONResponse(account_document(registry.quota(team)))


@routes.put(
    "",
    operation_id="quotas_set",
    summary="Set a team's quota; for operators",
    responses=documented(Account, 400, 403, 404),
)
def set_quota(registry: Asked, team: Text, body: QuotaBody) -> JSONResponse:
    """All limits at once. What a team has beyond one stays; it can't add to it."""
    return JSONResponse(account_document(registry.set_quota(team, Quota(**body.model_dump()))))
