"""Calls of the Hub protocol are found on the raw path, and refused in the way that its clients read."""

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from starlette.responses import Response

from registry.domain.rights import Role
from registry.http.hub.routing import Call, HubRoute
from tests.http.conftest import Server


async def _nothing(_call: Call) -> Response:
    return Response()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/models/a/b/tree/main", {"team": "a", "name": "b", "revision": "main", "path": ""}),
        ("/api/models/a/b/tree/x%2Fy/c/d", {"team": "a", "name": "b", "revision": "x/y", "path": "c/d"}),
        ("/api/models/a/b/tree/x%252Fy", {"team": "a", "name": "b", "revision": "x%2Fy", "path": ""}),
        ("/api/models/a/b/tree", None),
        ("/api/models/a/b/files/main", None),
    ],
)
def test_a_quoted_segment_stays_one(path: str, found: dict[str, str] | None) -> None:
    route = HubRoute("GET", "/api/models/{team}/{name}/tree/{revision}/{path:path}", _nothing)
    scope = {"type": "http", "method": "GET", "path": "", "raw_path": path.encode()}
    assert route.matches(scope)[1].get("path_params") == found


def test_a_client_learns_who_it_is(server: Server) -> None:
    server.registry.create_team("acme")
    ada = server.client("ada", "acme", Role.WRITER)
    answer = HfApi(endpoint=server.url, token=ada.token).whoami()
    assert (answer["name"], [team["name"] for team in answer["orgs"]]) == ("ada", ["acme"])


def test_a_client_with_a_wrong_token_is_told_so(server: Server) -> None:
    with pytest.raises(HfHubHTTPError, match=r"Invalid user token|Invalid credentials"):
        HfApi(endpoint=server.url, token="hf_" + "x" * 34).whoami()
