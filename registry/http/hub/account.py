"""Who the token's owner is, and what clients ask on the side."""

from fastapi.responses import JSONResponse
from starlette.responses import Response

from registry.http.hub.routing import Call, HubRoute


async def whoami(call: Call) -> Response:
    """The caller, and the teams where it has a role, as organisations."""
    caller = call.registry.caller
    teams = [{"name": team, "type": "org"} for team in sorted(caller.roles)]
    token = {"displayName": caller.name, "role": "write"}
    auth = {"type": "access_token", "accessToken": token}
    return JSONResponse({"type": "user", "name": caller.name, "fullname": caller.name, "orgs": teams, "auth": auth})


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
