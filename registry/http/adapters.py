"""/v1/adapters: the list of adapters, the search among their versions, and one adapter."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.documents import adapter_document, version_document
from registry.domain.errors import WrongUsage
from registry.domain.records import Adapter as Record
from registry.domain.records import SearchQuery, Status
from registry.domain.reference import Reference, Selector
from registry.http.access import Asked
from registry.http.paths import Cursor, Limit, Text, Words, name_of
from registry.http.schemas import documented
from registry.http.version_schemas import Adapter, AdapterPage, VersionPage
from registry.service import Registry

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])
ANY = "any"


@routes.get(
    "",
    operation_id="adapters_list",
    summary="List adapters, or search among their versions",
    responses=documented(AdapterPage | VersionPage, 400),
)
def adapters(
    registry: Asked,
    team: Annotated[Text | None, Query(description="only this team's")] = None,
    base: Annotated[Text | None, Query(description="a registered name or sha256:<hex>")] = None,
    rank: Annotated[int | None, Query(ge=0, description="exactly this rank")] = None,
    rank_min: Annotated[int | None, Query(ge=0)] = None,
    rank_max: Annotated[int | None, Query(ge=0)] = None,
    target: Annotated[list[Text] | None, Query(max_length=100, description="adapts this module; repeatable")] = None,
    text: Annotated[Text | None, Query(description="beginnings of words of name, message or metadata")] = None,
    metric: Annotated[list[Text] | None, Query(max_length=100, description="name>=x; repeatable")] = None,
    status: Annotated[Status | str | None, Query(description="active unless given; `any` for all")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> JSONResponse:
    """Without conditions (but for the team): adapters by name, {"adapters", "cursor"}.

    With `base`, `rank…`, `target`, `text`, `metric` or `status`: versions that fit all of them, newest first,
    {"versions", "cursor"}.
    """
    conditions = (base, rank, rank_min, rank_max, target, text, metric, status)
    if all(condition is None for condition in conditions):
        return _adapters(registry, team, limit=limit, cursor=cursor)
    query = SearchQuery(
        team=team,
        base=base,
        rank_min=rank_min if rank is None else rank,
        rank_max=rank_max if rank is None else rank,
        targets=tuple(target or ()),
        text=text,
        metrics=tuple(_metric(line) for line in metric or ()),
        status=_status(status),
        limit=limit,
        cursor=cursor,
    )
    page = registry.search(query)
    return JSONResponse({"versions": [version_document(v) for v in page.items], "cursor": page.cursor})


def _adapters(registry: Registry, team: str | None, *, limit: int, cursor: str | None) -> JSONResponse:
    page = registry.listing(team=team, cursor=cursor, limit=limit)
    return JSONResponse({"adapters": [adapter_document(*pair) for pair in page.items], "cursor": page.cursor})


def _metric(line: str) -> tuple[str, float]:
    name, _, least = line.partition(">=")
    try:
        return name.strip(), float(least)
    except ValueError:
        raise WrongUsage(f"{line[:80]!r} is not name>=x, with a number") from None


def _status(text: str | None) -> Status | None:
    if text is None:
        return Status.ACTIVE
    if text == ANY:
        return None
    try:
        return Status(text)
    except ValueError:
        raise WrongUsage(f"{text[:80]!r} is no status: {', '.join(Status)} or {ANY}") from None


class Description(BaseModel):
    """What is to change; a metadata value of null takes the entry out."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"description": "help desk", "metadata": {"owner": "ml"}}]}
    )

    description: Words | None = None
    metadata: Annotated[dict[Text, Words | None], Field(max_length=200)] = {}


@routes.get(
    "/{team}/{name}", operation_id="adapters_show", summary="One adapter", responses=documented(Adapter, 400, 404, 410)
)
def adapter(registry: Asked, team: str, name: str) -> JSONResponse:
    return _shown(registry, registry.adapter(name_of(team, name)))


@routes.patch(
    "/{team}/{name}",
    operation_id="adapters_edit",
    summary="Describe an adapter",
    responses=documented(Adapter, 400, 403, 404, 410),
)
def edit(registry: Asked, team: str, name: str, body: Description) -> JSONResponse:
    """What isn't given stays. Who may see an adapter is decided for its team."""
    done = registry.edit_adapter(name_of(team, name), description=body.description, metadata=body.metadata)
    return _shown(registry, done)


@routes.delete(
    "/{team}/{name}",
    operation_id="adapters_delete",
    summary="Delete an adapter",
    responses=documented(Adapter, 400, 403, 404, 409, 410),
)
def delete(
    registry: Asked,
    team: str,
    name: str,
    reason: Annotated[Text, Query(min_length=1, description="why; it is kept")],
    force: Annotated[bool, Query(description="even while aliases lead there")] = False,
) -> JSONResponse:
    """Its aliases are deleted, its versions answer 410. A tombstone stays: no number is given twice."""
    return _shown(registry, registry.delete_adapter(name_of(team, name), reason=reason, force=force))


def _shown(registry: Registry, found: Record) -> JSONResponse:
    pin = Reference(found.name, Selector.VERSION, str(found.latest))
    return JSONResponse(adapter_document(found, registry.peek(pin) if found.latest else None))
