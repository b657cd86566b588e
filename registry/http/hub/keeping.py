"""Repositories as wholes: begun, deleted, and what of their settings there is.

Who may read an adapter is decided for its team. What a client wants for a single repository is done where it is so
anyway, and refused where it isn't: nothing is said to be private that others can read.
"""

from contextlib import suppress
from typing import Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.domain.errors import AdapterNotFound, AliasInUse, Gone, InvalidReference, NameTaken
from registry.domain.reference import AdapterName
from registry.domain.rights import Scope
from registry.http.hub import bodies
from registry.http.hub.names import Repository, repository
from registry.http.hub.origin import origin_of
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.targets import adapter_of
from registry.http.paths import Words
from registry.service import Registry

_REASON = "deleted by a client of the Hugging Face Hub's protocol"


class _Repo(BaseModel):
    """What names a repository in a body."""

    model_config = ConfigDict(extra="forbid")

    name: Words
    organization: Words | None = None
    type: Words | None = None


class NewRepo(_Repo):
    """A repository to begin. Without an organisation it is the caller's own team's, or its only one's."""

    private: bool | None = None
    visibility: Literal["private", "public", "protected"] | None = None


class OldRepo(_Repo):
    """A repository to delete."""


class Settings(BaseModel):
    """Settings of a repository; what isn't given stays."""

    model_config = ConfigDict(extra="forbid")

    private: bool | None = None
    visibility: Literal["private", "public", "protected"] | None = None
    gated: Literal["auto", "manual", False] | None = None


async def create(call: Call) -> Response:
    """Take a name; a repository that is there is answered with 409 and its address."""
    wanted = await bodies.read(call, NewRepo)
    name, new = await run_in_threadpool(_create, call.registry, wanted)
    document = {"url": f"{origin_of(call.request)}/{name}", "name": str(name)}
    if new:
        return JSONResponse(document)
    text = f"{name} exists already"
    return JSONResponse({**document, "error": text}, 409, headers={"X-Error-Message": text})


def _create(registry: Registry, wanted: NewRepo) -> tuple[AdapterName, bool]:
    try:
        found = _named(registry, wanted)
    except InvalidReference as error:
        raise HTTPException(400, f"{error}") from error
    if found.view:
        raise HTTPException(400, f"{found.id} is what {found.view} is read by; repositories have other names")
    with suppress(AdapterNotFound, Gone):
        return registry.adapter(found.adapter).name, False
    # The commands of 0.36 say `private: false` where nobody said anything.
    _check_visibility(registry, found.adapter.team, wanted.private or None, wanted.visibility)
    try:
        return registry.create_adapter(found.adapter).name, True
    except NameTaken:  # somebody else was first
        return registry.adapter(found.adapter).name, False


async def delete(call: Call) -> Response:
    """Delete a repository for good; a tombstone stays."""
    wanted = await bodies.read(call, OldRepo)
    return JSONResponse({"name": str(await run_in_threadpool(_delete, call.registry, wanted))})


def _delete(registry: Registry, wanted: OldRepo) -> AdapterName:
    found = _named(registry, wanted)
    if found.view:
        raise HTTPException(403, f"{found.id} only shows {found.view}: delete {found.adapter}")
    try:
        return registry.delete_adapter(found.adapter, reason=_REASON).name
    except Gone:
        raise AdapterNotFound(str(found.adapter)) from None
    except AliasInUse as error:
        text = f"{error.reference} has the aliases {error.aliases}: delete these branches first"
        raise HTTPException(409, text) from error


async def settings(call: Call) -> Response:
    """What is so already; anything else is refused by name."""
    wanted = await bodies.read(call, Settings)
    return JSONResponse(await run_in_threadpool(_settings, call, wanted))


def _settings(call: Call, wanted: Settings) -> dict[str, bool]:
    name = adapter_of(call)
    call.registry.check_access(name, Scope.WRITE)
    if wanted.gated:
        raise HTTPException(501, "requests for access are not offered here: a team's roles say who may read")
    public = _check_visibility(call.registry, name.team, wanted.private, wanted.visibility)
    return {"private": not public, "gated": False}


async def move(_call: Call) -> Response:
    """A name stays what it is."""
    raise HTTPException(501, "moving repositories is not offered here: push to the new name, and delete the old one")


def _named(registry: Registry, wanted: _Repo) -> Repository:
    if wanted.type not in (None, "model"):
        raise HTTPException(501, f"{wanted.type}s are not offered here: this registry keeps adapters, as models")
    return repository(wanted.organization or _own_team(registry), wanted.name)


def _own_team(registry: Registry) -> str:
    """The team of the caller's name, or the only one that it may write to. Raises HTTPException 400."""
    caller = registry.caller
    teams = [team.name for team in registry.teams() if caller.may(Scope.WRITE, team.name)]
    own = [team for team in teams if team.lower() == caller.name.lower()]
    if len(own or teams) == 1:
        return (own or teams)[0]
    listed = f", for instance {', '.join(teams[:5])}" if teams else ""
    raise HTTPException(400, f"say whose it is: team/name{listed}")


def _check_visibility(registry: Registry, team: str, private: bool | None, visibility: str | None) -> bool:
    """Whether a team is public. Raises HTTPException 400 where something else is wanted of one repository."""
    public = any(found.name.lower() == team.lower() and found.visibility == "public" for found in registry.teams())
    wanted = visibility or (None if private is None else "private" if private else "public")
    if wanted not in (None, "public" if public else "private"):
        which = "public" if public else "private"
        raise HTTPException(
            400,
            f"{team} is a {which} team, and so are all its repositories: one of them can't be {wanted}. "
            f"An owner changes that for the team: `adapters team visibility`",
        )
    return public


routes = (
    HubRoute("POST", "/api/repos/create", create),
    HubRoute("DELETE", "/api/repos/delete", delete),
    HubRoute("POST", "/api/repos/move", move),
    HubRoute("PUT", "/api/models/{team}/{name}/settings", settings),
)
