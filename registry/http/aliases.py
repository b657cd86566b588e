"""…/aliases: reading aliases, moving them on condition that nobody else did, and their history.

An alias's tag is its sequence number. A move says which one its author saw, or that there was none; so of several who
decided on the same state, the first moves it and the others get 412.
"""

import re
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from registry.domain.documents import alias_document, move_document
from registry.domain.errors import AliasNotFound, WrongUsage
from registry.domain.records import AliasMove
from registry.domain.reference import Reference, Selector
from registry.http.access import Asked
from registry.http.name_schemas import Alias, Aliases, Move, Moves
from registry.http.paths import Limit, Text, Words, name_of, other_of
from registry.http.schemas import documented

routes = APIRouter(prefix="/v1/adapters/{team}/{name}", tags=["aliases"])
_SEQ = re.compile(r'"([0-9]{1,18})"', re.ASCII)
IfMatch = Annotated[str | None, Header(description='the sequence number that was seen, as "3"; * for any')]
IfNoneMatch = Annotated[str | None, Header(description="* : only if there is no such alias yet")]


class MoveBody(BaseModel):
    """Where an alias is to point."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"version": 3, "reason": "better on held-out"}]}
    )

    version: int = Field(ge=1, lt=10**18)
    reason: Words | None = None
    across_bases: bool = Field(default=False, description="allow another base than the present target's")
    override_gate: bool = Field(default=False, description="pass a closed gate; takes an admin and a reason")


class RollbackBody(BaseModel):
    """Where to go back to: an earlier target, or the one before."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "worse on live traffic"}]})

    to: int | Text | None = None
    reason: Words | None = None


@routes.get(
    "/aliases",
    operation_id="aliases_list",
    summary="An adapter's aliases",
    responses=documented(Aliases, 400, 404),
)
def aliases(registry: Asked, team: str, name: str) -> JSONResponse:
    adapter = registry.adapter(name_of(team, name))
    return JSONResponse({"aliases": [alias_document(alias) for alias in registry.aliases(adapter.name)]})


@routes.get(
    "/aliases/{alias}",
    operation_id="aliases_show",
    summary="Where an alias points; its ETag is its sequence number",
    responses=documented(Alias, 400, 404),
)
def show(registry: Asked, team: str, name: str, alias: str) -> JSONResponse:
    adapter = registry.adapter(name_of(team, name))
    for found in registry.aliases(adapter.name):
        if found.name.lower() == alias.lower():
            return JSONResponse(alias_document(found), headers={"ETag": f'"{found.seq}"', "Cache-Control": "no-cache"})
    raise AliasNotFound(str(adapter.name), alias)


@routes.put(
    "/aliases/{alias}",
    operation_id="aliases_move",
    summary="Point an alias at a version",
    responses=documented(Move, 400, 403, 404, 409, 410, 412, 428),
)
def move(
    registry: Asked,
    team: str,
    name: str,
    alias: str,
    body: MoveBody,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> JSONResponse:
    """If-Match: "<seq>" moves it if nobody did since; If-None-Match: * creates it; If-Match: * moves or creates it."""
    reference = Reference(name_of(team, name), Selector.VERSION, str(body.version))
    done = registry.promote(
        reference,
        alias,
        expected=_expected(if_match, if_none_match, needed=True),
        reason=body.reason,
        across_bases=body.across_bases,
        override_gate=body.override_gate,
    )
    return _moved(done)


@routes.delete(
    "/aliases/{alias}",
    operation_id="aliases_delete",
    summary="Delete an alias; its counter and history stay",
    responses=documented(Move, 400, 403, 404, 412),
)
def delete(registry: Asked, team: str, name: str, alias: str, if_match: IfMatch = None) -> JSONResponse:
    return _moved(registry.delete_alias(name_of(team, name), alias, expected=_expected(if_match, None)))


@routes.post(
    "/aliases/{alias}/rollback",
    operation_id="aliases_roll_back",
    summary="Point an alias back at the version before",
    responses=documented(Move, 400, 403, 404, 409, 412),
)
def roll_back(
    registry: Asked, team: str, name: str, alias: str, body: RollbackBody | None = None, if_match: IfMatch = None
) -> JSONResponse:
    body = body or RollbackBody()
    to = None if body.to is None else other_of(team, name, body.to)
    expected = _expected(if_match, None)
    return _moved(registry.rollback(name_of(team, name), alias, to=to, expected=expected, reason=body.reason))


@routes.get(
    "/aliases/{alias}/history",
    operation_id="aliases_history",
    summary="How an alias moved, newest first",
    responses=documented(Moves, 400, 404),
)
def history(registry: Asked, team: str, name: str, alias: str, limit: Limit = 100) -> JSONResponse:
    moves = registry.history(name_of(team, name), alias, limit=limit)
    return JSONResponse({"moves": [move_document(line) for line in moves]})


@routes.get(
    "/history",
    operation_id="adapters_history",
    summary="How all of an adapter's aliases moved, newest first",
    responses=documented(Moves, 400, 404),
)
def all_history(registry: Asked, team: str, name: str, limit: Limit = 100) -> JSONResponse:
    moves = registry.history(name_of(team, name), limit=limit)
    return JSONResponse({"moves": [move_document(line) for line in moves]})


def _moved(done: AliasMove) -> JSONResponse:
    return JSONResponse(move_document(done), headers={"ETag": f'"{done.seq}"'})


def _expected(if_match: str | None, if_none_match: str | None, *, needed: bool = False) -> int | None:
    """The sequence number that a move is conditional on; 0 for an alias that must not be there; None for any."""
    if if_match is not None and if_none_match is not None:
        raise WrongUsage("If-Match and If-None-Match contradict each other")
    if if_none_match is not None:
        if if_none_match.strip() != "*":
            raise WrongUsage("If-None-Match must be *: only if there is no such alias yet")
        return 0
    if if_match is None:
        if needed:
            raise HTTPException(428, 'say which state was seen: If-Match: "<seq>", or If-None-Match: * for a new alias')
        return None
    if if_match.strip() == "*":
        return None
    match = _SEQ.fullmatch(if_match.strip())
    if match is None:
        raise WrongUsage('If-Match must be a sequence number in quotes, as "3"')
    return int(match[1])
