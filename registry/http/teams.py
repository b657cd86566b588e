"""/v1/teams: teams, whether everybody may read them, and who is in them."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from registry.domain.documents import member_document, team_document
from registry.domain.records import Member
from registry.domain.rights import Role
from registry.http.access import Asked
from registry.http.access_schemas import Members, Team, Teams
from registry.http.paths import Text
from registry.http.schemas import documented

routes = APIRouter(prefix="/v1/teams", tags=["teams"])


class TeamBody(BaseModel):
    """A new team."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "acme"}]})

    name: Text
    visibility: Literal["private", "public"] = "private"


class VisibilityBody(BaseModel):
    """Who may read a team's adapters: its members, or everybody with a token."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"visibility": "public"}]})

    visibility: Literal["private", "public"]


class RoleBody(BaseModel):
    """What somebody is in a team."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"role": "writer"}]})

    role: Role


@routes.get("", operation_id="teams_list", summary="The teams that one may see", responses=documented(Teams))
def teams(registry: Asked) -> JSONResponse:
    return JSONResponse({"teams": [team_document(team) for team in registry.teams()]})


@routes.post(
    "",
    operation_id="teams_create",
    status_code=201,
    summary="Make a team, and own it; for operators",
    responses=documented(Team, 400, 403, 409, status=201),
)
def create(registry: Asked, body: TeamBody) -> JSONResponse:
    made = registry.create_team(body.name, public=body.visibility == "public")
    return JSONResponse(team_document(made), 201)


@routes.patch(
    "/{team}",
    operation_id="teams_set_visibility",
    summary="Make a team public or private",
    responses=documented(Team, 400, 403, 404),
)
def set_visibility(registry: Asked, team: Text, body: VisibilityBody) -> JSONResponse:
    return JSONResponse(team_document(registry.set_visibility(team, public=body.visibility == "public")))


@routes.get(
    "/{team}/members",
    operation_id="members_list",
    summary="Who is in a team",
    responses=documented(Members, 404),
)
def members(registry: Asked, team: Text) -> JSONResponse:
    return _members(registry.members(team))


@routes.put(
    "/{team}/members/{principal}",
    operation_id="members_set",
    summary="Give somebody a role in a team",
    responses=documented(Members, 400, 403, 404),
)
def set_role(registry: Asked, team: Text, principal: Text, body: RoleBody) -> JSONResponse:
    return _members(registry.set_role(team, principal, body.role))


@routes.delete(
    "/{team}/members/{principal}",
    operation_id="members_remove",
    summary="Take somebody out of a team",
    responses=documented(Members, 403, 404),
)
def remove(registry: Asked, team: Text, principal: Text) -> JSONResponse:
    return _members(registry.set_role(team, principal, None))


def _members(found: list[Member]) -> JSONResponse:
    return JSONResponse({"members": [member_document(member) for member in found]})
