"""What the Hub has and a registry of adapters hasn't, refused by name; and what clients take for a repository of it.

These routes are the last ones: they match what no call does.
"""

from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.domain.errors import AdapterNotFound
from registry.http.hub.routing import Call, HubRoute

_ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_KINDS = ("datasets", "spaces", "kernels", "buckets", "collections", "papers", "jobs", "discussions", "webhooks")


async def other_kind(call: Call) -> Response:
    """Datasets, spaces and so on."""
    kind = next(part for part in call.request.url.path.split("/") if part in _KINDS)
    raise HTTPException(501, f"{kind} are not offered here: this registry keeps adapters, as model repositories")


async def discussions(_call: Call) -> Response:
    """Discussions and pull requests."""
    raise HTTPException(501, "discussions and pull requests are not offered here: push to main, move an alias")


async def unknown(call: Call) -> Response:
    """Every other call of the Hub's API."""
    raise HTTPException(501, f"{call.request.method} {call.request.url.path[:200]} is not offered by this registry")


async def without_team(call: Call) -> Response:
    """A model of the Hub that has no owner in its name is never here."""
    raise AdapterNotFound(call["name"])


routes = (
    *(HubRoute(_ANY, f"/api/{kind}/{{rest:path}}", other_kind, public=True) for kind in _KINDS),
    *(HubRoute(_ANY, f"/{kind}/{{team}}/{{name}}/resolve/{{rest:path}}", other_kind, public=True) for kind in _KINDS),
    HubRoute(_ANY, "/api/models/{team}/{name}/discussions/{rest:path}", discussions, public=True),
    HubRoute(("GET", "HEAD"), "/{name}/resolve/{revision}/{path:path}", without_team),
    HubRoute(("GET", "HEAD"), "/api/models/{name}", without_team),
    HubRoute(("GET", "HEAD"), "/api/models/{name}/revision/{revision}", without_team),
    HubRoute(("GET", "HEAD"), "/api/models/{name}/tree/{revision}/{path:path}", without_team),
    HubRoute(_ANY, "/api/{rest:path}", unknown, public=True),
)
