"""Roles x every call of the reading rooms x one's own, another's and an absent team. A call without a row fails."""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import SCOPES_OF, Role, Scope
from registry.http.hub import ROUTES, account, downloads, models, repositories, revisions, trees, unoffered
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Client, Server, running

OURS, THEIRS, ABSENT = "ours", "theirs", "absent"
FORMS = {"team": "{team}", "name": "a", "revision": "production", "path": "README.md", "rest": "x"}
ID = "/api/models/{team}/{name}"
FILE = "/{team}/{name}/resolve/{revision}/{path:path}"
ROOMS = (account, models, repositories, trees, revisions, downloads, unoffered)


@dataclass(frozen=True)
class Row:
    """How a call is made, and what those who may get. `takes` None: any token; ANYBODY: not even one."""

    takes: Scope | str | None
    status: int = 200
    query: str = ""
    body: Any = None


ANYBODY = "anybody"
ROWS: dict[tuple[str, str], Row] = {
    ("GET", "/api/whoami-v2"): Row(None),
    ("POST", "/api/validate-yaml"): Row(None, body={"content": "a: 1"}),
    ("GET", "/api/agent-harnesses"): Row(ANYBODY),
    ("GET", "/api/models"): Row(None, query="?author={team}&full=true"),
    ("GET", ID): Row(Scope.READ, query="?blobs=true"),
    ("GET", ID + "/revision/{revision}"): Row(Scope.READ),
    ("GET", ID + "/auth-check"): Row(Scope.READ),
    ("GET", ID + "/auth-check/write"): Row(Scope.WRITE),
    ("GET", ID + "/tree/{revision}/{path:path}"): Row(Scope.READ, 404),
    ("POST", ID + "/paths-info/{revision}"): Row(Scope.READ, body={"paths": ["README.md"], "expand": True}),
    ("GET", ID + "/refs"): Row(Scope.READ, query="?include_prs=1"),
    ("GET", ID + "/commits/{revision}"): Row(Scope.READ, query="?limit=1"),
    ("GET", FILE): Row(Scope.READ),
    ("HEAD", FILE): Row(Scope.READ),
    ("GET", "/{name}/resolve/{revision}/{path:path}"): Row(None, 404),
    ("HEAD", "/{name}/resolve/{revision}/{path:path}"): Row(None, 404),
    ("GET", "/api/models/{name}"): Row(None, 404),
    ("HEAD", "/api/models/{name}"): Row(None, 404),
    ("GET", "/api/models/{name}/revision/{revision}"): Row(None, 404),
    ("HEAD", "/api/models/{name}/revision/{revision}"): Row(None, 404),
    ("GET", "/api/models/{name}/tree/{revision}/{path:path}"): Row(None, 404),
    ("HEAD", "/api/models/{name}/tree/{revision}/{path:path}"): Row(None, 404),
}
UNOFFERED = {(method, route.path) for route in unoffered.routes for method in route.methods} - ROWS.keys()
ROWS |= {key: Row(ANYBODY, 501) for key in UNOFFERED}


def calls() -> set[tuple[str, str]]:
    rooms = [route for room in ROOMS for route in room.routes]
    assert set(rooms) <= set(ROUTES)
    return {(method, route.path) for route in rooms for method in route.methods}


def test_every_call_has_a_row() -> None:
    assert calls() == set(ROWS)


@pytest.fixture(scope="module")
def peopled(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Server]:
    """Two teams with the same adapter."""
    folder = tmp_path_factory.mktemp("peopled")
    shutil.copyfile(sqlite_template, folder / "catalog.db")
    adapter = write_adapter(folder / "a")
    with running(f"sqlite:///{folder}/catalog.db", (folder / "blobs").as_uri()) as server:
        for team in (OURS, THEIRS):
            server.registry.push_folder(adapter, Submission(AdapterName(team, "a"), ()))
            server.registry.promote(Reference.parse(f"{team}/a@v1"), "production")
        yield server


def call(client: Client, key: tuple[str, str], team: str) -> urllib3.BaseHTTPResponse:
    method, template = key
    row = ROWS[key]
    path = re.sub(r"{(\w+)(:path)?}", lambda found: FORMS[found[1]], template) + row.query
    options = {} if row.body is None else {"json": row.body}
    return client.request(method, path.replace("{team}", team), **options)


def told(answer: urllib3.BaseHTTPResponse, team: str) -> tuple[Any, ...]:
    """All that an answer tells, with the team's name taken out."""
    headers = [answer.headers.get(name, "") for name in ("X-Error-Code", "X-Error-Message", "X-Repo-Commit", "Link")]
    return answer.status, *(text.replace(team, "TEAM") for text in (*headers, answer.data.decode()))


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: role or "operator")
def test_each_role_may_read_and_sees_nothing_elsewhere(peopled: Server, role: Role | None) -> None:
    client = peopled.client(f"a-{role}", OURS, role) if role else peopled.client()
    for key, row in ROWS.items():
        if row.takes == ANYBODY:
            continue
        allowed = role is None or row.takes is None or row.takes in SCOPES_OF[role]
        own = call(client, key, OURS)
        assert own.status == (row.status if allowed else 403), (key, own.data)
        assert own.status < 400 or own.headers["X-Error-Message"], key
        if role is not None and "{team}" in key[1] + row.query:
            other, absent = call(client, key, THEIRS), call(client, key, ABSENT)
            assert told(other, THEIRS) == told(absent, ABSENT), key
            if isinstance(row.takes, Scope):
                assert (other.status, other.headers["X-Error-Code"]) == (404, "RepoNotFound"), key


def test_without_a_good_token_nothing_is_told(peopled: Server) -> None:
    for key, row in ROWS.items():
        answer = call(peopled.nobody, key, OURS)
        if row.takes == ANYBODY:
            assert answer.status == row.status, key
            continue
        assert (answer.status, answer.headers.get("X-Error-Code")) == (401, "RepoNotFound"), key
        assert told(answer, OURS) == told(call(peopled.nobody, key, ABSENT), ABSENT), key


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_wrong_token_is_told_so_until_it_has_to_wait(server: Server) -> None:
    stranger = Client(server.url, "adp_unknown", server.pool)
    wrong = call(stranger, ("GET", ID), OURS)
    assert (wrong.status, wrong.headers.get("X-Error-Code")) == (401, None)
    assert wrong.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
    guesses = [call(stranger, ("GET", ID), OURS) for _ in range(25)][-1]
    assert guesses.status == 429 and int(guesses.headers["Retry-After"]) > 0


def test_a_public_team_is_read_by_everybody(peopled: Server) -> None:
    client = peopled.client("bob", OURS, Role.OWNER)
    peopled.registry.set_visibility(THEIRS, public=True)
    for key, row in ROWS.items():
        if isinstance(row.takes, Scope):
            assert call(client, key, THEIRS).status == (row.status if row.takes is Scope.READ else 403), key
    peopled.registry.set_visibility(THEIRS, public=False)


def test_figures_name_calls_by_their_templates(peopled: Server) -> None:
    client = peopled.client()
    call(client, ("GET", FILE), OURS)
    figures = client.get("/metrics").data.decode()
    assert f'route="{FILE}"' in figures and f"{OURS}/a" not in figures


def test_a_token_is_what_it_may_do(peopled: Server) -> None:
    registry = peopled.registry
    client = peopled.client("wil", OURS, Role.WRITER)
    who = client.get("/api/whoami-v2").json()
    assert (who["type"], who["name"]) == ("user", "wil")
    assert [(org["name"], org["roleInOrg"]) for org in who["orgs"]] == [(OURS, "write")]
    assert who["auth"]["accessToken"] == {"displayName": "test", "role": "write"}
    narrow = registry.create_token("laptop", principal="wil", scopes=[Scope.READ]).secret
    who = Client(peopled.url, narrow, peopled.pool).get("/api/whoami-v2").json()
    assert who["auth"]["accessToken"] == {"displayName": "laptop", "role": "read"}
    assert json.dumps(who["orgs"]) == json.dumps([{"name": OURS, "type": "org", "roleInOrg": "read"}])
    operator = peopled.client().get("/api/whoami-v2").json()
    assert [(org["name"], org["roleInOrg"]) for org in operator["orgs"]] == [(OURS, "admin"), (THEIRS, "admin")]
