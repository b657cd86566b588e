"""Who the token's owner is, and what clients ask on the side."""

from typing import Any

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.rights import Caller, Scope
from registry.http.hub.routing import Call, HubRoute


async def whoami(call: Call) -> Response:
    """The caller, and the teams where it has a role, as organisations; an operator has one in all."""
    return JSONResponse(await run_in_threadpool(_whoami, call))


def _whoami(call: Call) -> dict[str, Any]:
    registry, caller = call.registry, call.registry.caller
    teams = [team.name for team in registry.teams() if caller.operator or team.name.lower() in caller.roles]
    writes = any(caller.may(Scope.WRITE, team) for team in teams) or caller.teams_with(Scope.WRITE) is None
    token = registry.own_token()
    return {
        "type": "user",
        "name": caller.name,
        "fullname": caller.name,
        "orgs": [{"name": team, "type": "org", "roleInOrg": _role(caller, team)} for team in teams],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": token.name if token else caller.name,
                "role": "write" if writes else "read",
            },
        },
    }


def _role(caller: Caller, team: str) -> str:
    """What the token lets its owner do in a team, in the Hub's words."""
    if caller.may(Scope.ADMIN, team):
        return "admin"
    return "write" if caller.may(Scope.WRITE, team) else "read"


async def validate_card(_call: Call) -> Response:
    """A card's metadata is for people; nothing in it is refused."""
    return JSONResponse({"errors": [], "warnings": []})


async def agent_harnesses(_call: Call) -> Response:
    """There are none."""
    return JSONResponse({"standardEnvVars": [], "harnesses": {}})


routes = (
    HubRoute("GET", "/api/whoami-v2", whoami),
    HubRoute("POST", "/api/validate-yaml", validate_card),
    HubRoute("GET", "/api/agent-harnesses", agent_harnesses, public=True),
)
