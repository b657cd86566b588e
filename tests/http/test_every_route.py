"""Roles x every route x one's own, another's and an absent team. A route without a row here fails.

The same calls show that every answer has its documented shape, and that no status is undocumented.
"""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3
from fastapi.routing import APIRoute
from pydantic import TypeAdapter

from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import SCOPES_OF, Role, Scope
from registry.http.app import ROOMS
from registry.http.schemas import Error
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server

# What differs between databases is tested below HTTP.
pytestmark = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)
OURS, THEIRS, ABSENT = "ours", "theirs", "absent"
FORMS = {"team": "{team}", "name": "a", "version": "1", "alias": "production", "principal": "carol"}


@dataclass(frozen=True)
class Row:
    """How a route is called, what it takes, and what those who may get. `takes` None: any token; OPERATOR: one."""

    takes: Scope | str | None
    status: int = 200
    query: str = ""
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    path: dict[str, str] = field(default_factory=dict)


OPERATOR = "operator"
ANY_SEQ = {"If-Match": "*"}
A = "/v1/adapters/{team}/{name}"
V = A + "/versions/{version}"
F = V + "/files/{path:path}"
U = "/v1/uploads/{upload_id}"
NO_UPLOAD = {"upload_id": "upload-0", "number": "1"}  # whose uploads are whose: see test_uploads.py
W = "/v1/webhooks/{webhook}"
OUR_HOOK, HOOK = {"webhook": "1"}, "https://localhost:9/hook"  # a name that leads to where nothing is sent
J = "/v1/jobs/{job_id}"
NO_JOB = {"job_id": "0"}  # whose jobs are whose: see test_jobs.py
README = {"path": "README.md", "sha256": hashlib.sha256(b"# toy\n").hexdigest(), "size": 6}
A_BASE = {"files": [README], "dry_run": True}
MEASURED = {"metrics": {"f1": 0.9}, "dataset": "d", "dataset_sha256": "0" * 64, "examples": [{"id": 1, "f1": 0.9}]}
ROWS: dict[tuple[str, str], Row] = {
    ("GET", "/v1/ping"): Row(None),
    ("GET", "/v1/me"): Row(None),
    ("GET", A + "/resolve"): Row(Scope.READ, query="?ref=production&engine=vllm&max_rank=64"),
    ("POST", "/v1/resolve"): Row(None, body={"refs": ["{team}/a", "{team}/a@v2"]}),
    ("GET", "/v1/adapters"): Row(None, query="?team={team}"),
    ("GET", A): Row(Scope.READ),
    ("GET", A + "/versions"): Row(Scope.READ, query="?limit=1"),
    ("GET", V): Row(Scope.READ),
    ("GET", V + "/lineage"): Row(Scope.READ),
    ("GET", V + "/modules"): Row(Scope.READ),
    ("GET", V + "/evaluations"): Row(Scope.READ),
    ("POST", V + "/evaluations"): Row(Scope.EVALUATE, 201, body=MEASURED),
    ("PATCH", V): Row(Scope.WRITE, body={"status": "yanked", "reason": "old"}, path={"version": "3"}),
    ("GET", A + "/diff"): Row(Scope.READ, query="?from=1&to=v2"),
    ("GET", A + "/compare"): Row(Scope.READ, query="?ref=1&ref=v2&metric=f1"),
    ("GET", A + "/history"): Row(Scope.READ),
    ("GET", A + "/aliases"): Row(Scope.READ),
    ("GET", A + "/aliases/{alias}"): Row(Scope.READ),
    ("GET", A + "/aliases/{alias}/history"): Row(Scope.READ),
    ("PUT", A + "/aliases/{alias}"): Row(Scope.PROMOTE, body={"version": 1}, headers=ANY_SEQ),
    ("POST", A + "/aliases/{alias}/rollback"): Row(Scope.PROMOTE, body={"reason": "worse"}),
    ("DELETE", A + "/aliases/{alias}"): Row(Scope.PROMOTE, path={"alias": "canary"}),
    ("GET", A + "/gates"): Row(Scope.READ),
    ("PUT", A + "/aliases/{alias}/gate"): Row(
        Scope.ADMIN, body={"requirements": [{"metric": "f1", "bound": 0.5}]}, path={"alias": "gated"}
    ),
    ("DELETE", A + "/aliases/{alias}/gate"): Row(Scope.ADMIN, 204, path={"alias": "gated"}),
    ("POST", A + "/aliases/{alias}/approvals"): Row(Scope.PROMOTE, 201, body={"version": 1}),
    ("GET", "/v1/bases"): Row(None),
    ("GET", "/v1/bases/index"): Row(None, query=f"?name={TOY}"),
    ("GET", "/v1/bases/{name:path}"): Row(None, path={"name": TOY}),
    ("POST", "/v1/bases"): Row(OPERATOR, 201, body={"name": "new/base", "index": toy_base("new").to_document()}),
    ("POST", "/v1/bases/links"): Row(OPERATOR, query=f"?name={TOY}", body={"succeeds": "old/base"}),
    ("GET", "/v1/teams"): Row(None),
    ("POST", "/v1/teams"): Row(OPERATOR, 201, body={"name": "new"}),
    ("PATCH", "/v1/teams/{team}"): Row(Scope.ADMIN, body={"visibility": "private"}),
    ("GET", "/v1/teams/{team}/members"): Row(Scope.READ),
    ("PUT", "/v1/teams/{team}/members/{principal}"): Row(Scope.ADMIN, body={"role": "reader"}),
    ("DELETE", "/v1/teams/{team}/members/{principal}"): Row(Scope.ADMIN),
    ("GET", "/v1/tokens"): Row(None),
    ("POST", "/v1/tokens"): Row(None, 201, body={"name": "mine", "scopes": ["read"], "days": 1}),
    ("DELETE", "/v1/tokens/{token_id}"): Row(OPERATOR, path={"token_id": "1"}),
    ("GET", "/v1/audit"): Row(OPERATOR, query="?limit=5"),
    ("GET", "/v1/audit/verify"): Row(OPERATOR),
    ("GET", F): Row(Scope.READ, path={"path": "README.md"}),
    ("HEAD", F): Row(Scope.READ, path={"path": "README.md"}),
    ("POST", "/v1/compositions"): Row(Scope.WRITE, 202, body={"expression": "2*{team}/a@v1", "into": "{team}/a"}),
    ("POST", "/v1/verifications"): Row(Scope.WRITE, 202, body={"ref": "{team}/a@v1"}),
    ("GET", "/v1/jobs"): Row(None, query="?team={team}"),
    ("GET", J): Row(None, 404, path=NO_JOB),
    ("GET", J + "/result"): Row(None, 404, path=NO_JOB),
    ("DELETE", J): Row(None, 404, path=NO_JOB),
    ("POST", "/v1/uploads"): Row(Scope.WRITE, body={"team": "{team}", "sha256": "0" * 64, "size": 5}),
    ("GET", U): Row(None, 404, path=NO_UPLOAD),
    ("DELETE", U): Row(None, 404, path=NO_UPLOAD),
    ("POST", U + "/complete"): Row(None, 404, path=NO_UPLOAD),
    ("PUT", U + "/parts/{number}"): Row(None, 404, path=NO_UPLOAD),
    ("POST", A + "/versions"): Row(Scope.WRITE, body={"files": [README]}),
    ("POST", A + "/base"): Row(
        Scope.WRITE,
        204,
        body={"files": [README], "dry_run": True},
        headers={"Idempotency-Key": "one"},
        path={"name": "base"},
    ),
    ("GET", "/v1/watch"): Row(None, query="?wait=0&cursor=0", headers={"Accept": "application/json"}),
    ("POST", "/v1/uploads/expire"): Row(OPERATOR, body={}),
    ("GET", "/v1/teams/{team}/quota"): Row(Scope.READ),
    ("PUT", "/v1/teams/{team}/quota"): Row(OPERATOR, body={"bytes": 10**12}),
    ("POST", "/v1/webhooks"): Row(Scope.ADMIN, 201, body={"team": "{team}", "url": HOOK}),
    ("GET", "/v1/webhooks"): Row(Scope.ADMIN, query="?team={team}"),
    ("GET", W): Row(Scope.ADMIN, path=OUR_HOOK),
    ("GET", W + "/deliveries"): Row(Scope.ADMIN, path=OUR_HOOK),
    ("POST", W + "/replay"): Row(Scope.ADMIN, path=OUR_HOOK, body={"cursor": 1}),
    ("POST", W + "/secret"): Row(Scope.ADMIN, path=OUR_HOOK, body={}),
    ("POST", W + "/test"): Row(Scope.ADMIN, path=OUR_HOOK),
    ("DELETE", W): Row(Scope.ADMIN, 204, path=OUR_HOOK),
    ("POST", "/v1/collections"): Row(OPERATOR, 202, body={"dry_run": True}),
    ("POST", V + "/purge"): Row(Scope.ADMIN, body={"reason": "leaked", "force": True}, path={"version": "3"}),
    ("PATCH", A): Row(Scope.WRITE, body={"description": "film reviews", "metadata": {"owner": "ml"}}),
    ("DELETE", A): Row(Scope.ADMIN, query="?reason=old&force=true"),
    ("POST", A + "/purge"): Row(Scope.ADMIN, body={"reason": "leaked", "force": True}),
}
ELSEWHERE = {("DELETE", "/v1/tokens/{token_id}"): 404}  # what is not one's own isn't there, not forbidden


def routes() -> dict[tuple[str, str], APIRoute]:
    """Every route under /v1, by method and template."""
    every = [route for room in ROOMS for route in room.routes.routes if isinstance(route, APIRoute)]
    return {(method, r.path): r for r in every for method in r.methods or () if r.path.startswith("/v1/")}


def test_every_route_has_a_row(backend: str) -> None:
    assert set(routes()) == set(ROWS)


@pytest.fixture
def peopled(server: Server, tmp_path: Path) -> Server:
    """Two teams with the same adapter, aliases that can go back, a gate, and people."""
    registry = server.registry
    registry.add_base("old/base", toy_base("old"))
    for team in (OURS, THEIRS):
        arrange(registry, tmp_path, AdapterName(team, "a"))
    registry.create_webhook(OURS, HOOK)
    registry.create_token("carol", principal="carol")
    return server


def arrange(registry: Registry, folder: Path, name: AdapterName) -> None:
    for seed in range(3):
        registry.push_folder(write_adapter(folder / str(seed), seed=seed), Submission(name=name, files=()))
    for version, alias in ((1, "production"), (2, "production"), (2, "canary")):
        registry.promote(Reference.parse(f"{name}@v{version}"), alias)


def call(client: Client, key: tuple[str, str], team: str) -> urllib3.BaseHTTPResponse:
    method, template = key
    row = ROWS[key]
    path = re.sub(r"{(\w+)(:path)?}", lambda found: {**FORMS, **row.path}[found[1]], template) + row.query
    options: dict[str, Any] = {"headers": row.headers}
    if row.body is not None:
        options["json"] = json.loads(json.dumps(row.body).replace("{team}", team))
    return client.request(method, path.replace("{team}", team), **options)


def is_about_a_team(key: tuple[str, str]) -> bool:
    return "{team}" in key[1] + ROWS[key].query + json.dumps(ROWS[key].body)


def hold_against_the_document(key: tuple[str, str], answer: urllib3.BaseHTTPResponse) -> None:
    documented = routes_documented()[key]
    assert answer.status in documented, f"{key} answers {answer.status}, which is not documented"
    shape = documented[answer.status]
    if shape is not None:
        TypeAdapter(shape).validate_json(answer.data, strict=True)


def routes_documented() -> dict[tuple[str, str], dict[int, Any]]:
    if not _DOCUMENTED:
        for key, route in routes().items():
            _DOCUMENTED[key] = {int(code): found.get("model") for code, found in route.responses.items()}
    return _DOCUMENTED


_DOCUMENTED: dict[tuple[str, str], dict[int, Any]] = {}


@pytest.mark.parametrize("role", [*Role, None], ids=lambda role: role or "operator")
def test_each_role_may_do_what_it_is_for_and_sees_nothing_elsewhere(peopled: Server, role: Role | None) -> None:
    client = peopled.client("bob", OURS, role) if role else peopled.client()
    for key, row in ROWS.items():
        allowed = role is None or row.takes is None or row.takes in SCOPES_OF[role]
        own = call(client, key, OURS)
        hold_against_the_document(key, own)
        assert own.status == (row.status if allowed else ELSEWHERE.get(key, 403)), (key, own.data)
        if role is not None and is_about_a_team(key):
            assert_the_same(key, call(client, key, THEIRS), call(client, key, ABSENT))


def assert_the_same(key: tuple[str, str], other: urllib3.BaseHTTPResponse, absent: urllib3.BaseHTTPResponse) -> None:
    """What isn't one's own answers like what isn't there, and with nothing of it."""
    expected = 404 if ROWS[key].takes is not None else 200
    assert (other.status, absent.status) == (expected, expected), (key, other.data, absent.data)
    hold_against_the_document(key, other)
    assert other.data.replace(THEIRS.encode(), b"TEAM") == absent.data.replace(ABSENT.encode(), b"TEAM"), key


def test_without_a_good_token_nothing_is_told(peopled: Server) -> None:
    stranger = Client(peopled.url, "adp_unknown", peopled.pool)
    for key in ROWS:
        for client in (peopled.nobody, *([stranger] if key[1] == "/v1/ping" else [])):
            answer = call(client, key, OURS)
            assert answer.status == 401, key
            if key[0] != "HEAD":
                TypeAdapter(Error).validate_json(answer.data, strict=True)


def test_a_public_team_is_read_by_everybody_and_changed_by_none(peopled: Server) -> None:
    peopled.registry.set_visibility(THEIRS, public=True)
    client = peopled.client("bob", OURS, Role.OWNER)
    for key, row in ROWS.items():
        if is_about_a_team(key) and row.takes is not None:
            answer = call(client, key, THEIRS)
            assert answer.status == (row.status if row.takes is Scope.READ else 403), (key, answer.data)
