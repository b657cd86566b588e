"""Roles x every writing call x one's own, another's and an absent team: who may not is told what the absent tells."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
import urllib3

from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.http.hub import ROUTES, commits, keeping, labels, large_files, preupload, sending, xet
from tests.http.conftest import Client, Server

OURS, THEIRS, ABSENT = "ours", "theirs", "absent"
FORMS = {"name": "a", "revision": "main", "branch": "b", "epoch": "e", "xorb": "0" * 64, "prefix": "p", "shard": "s"}
ROOMS = (commits, keeping, labels, large_files, preupload, sending, xet)
ID = "/api/models/{team}/{name}"
LFS = "/{team}/{name}.git/info/lfs/objects"
FILE = {"oid": "0" * 64, "size": 1}
NAMED = {"name": "a", "organization": "{team}"}
HEADER = {"key": "header", "value": {"summary": "x"}}


@dataclass(frozen=True)
class Row:
    """What a call sends, and what a reader of the team is told."""

    body: Any = None
    reader: int = 403


ROWS: dict[tuple[str, str], Row] = {
    ("POST", ID + "/commit/{revision}"): Row(HEADER),
    ("POST", "/api/repos/create"): Row({**NAMED, "name": "new"}),
    ("DELETE", "/api/repos/delete"): Row(NAMED),
    ("POST", "/api/repos/move"): Row({"fromRepo": "{team}/a", "toRepo": "{team}/b"}, 501),
    ("PUT", ID + "/settings"): Row({}),
    ("POST", ID + "/branch/{branch}"): Row({}),
    ("DELETE", ID + "/branch/{branch}"): Row(),
    ("POST", ID + "/tag/{revision}"): Row({"tag": "t"}),
    ("DELETE", ID + "/tag/{revision}"): Row(),
    ("POST", LFS + "/batch"): Row({"operation": "upload", "objects": [FILE]}),
    ("POST", LFS + "/verify"): Row(FILE, 404),
    ("POST", ID + "/preupload/{revision}"): Row({"files": []}),
    ("GET", ID + "/xet-write-token/{revision}"): Row(),
    **{("POST", f"/api/xet/{{team}}/{{epoch}}/{path}"): Row() for path in ("v1/xorbs/default/{xorb}", "v1/shards")},
    **{("POST", f"/api/xet/{{team}}/{{epoch}}/{path}"): Row() for path in ("xorbs/default/{xorb}", "shards")},
    **{("POST", f"/api/xet/{{team}}/{{epoch}}/{path}"): Row() for path in ("xorb/default/{xorb}", "v2/shards")},
    **{(method, "/api/xet/{team}/{epoch}/shard/{prefix}/{shard}"): Row() for method in ("POST", "PUT")},
}
BY_ADDRESS = {("PUT", "/api/lfs/parts"), ("POST", "/api/lfs/completion")}  # tests/http/hub/test_large_files.py
NOTHING = {(method, "/api/xet/{path:path}") for method in ("GET", "HEAD", "POST", "PUT")}


def test_every_writing_call_has_a_row() -> None:
    rooms = [route for room in ROOMS for route in room.routes]
    assert set(rooms) <= set(ROUTES)
    assert {(method, route.path) for route in rooms for method in route.methods} == set(ROWS) | BY_ADDRESS | NOTHING


def call(client: Client, key: tuple[str, str], team: str) -> urllib3.BaseHTTPResponse:
    method, template = key
    path = re.sub(r"{(\w+)}", lambda found: FORMS.get(found[1], found[0]), template).replace("{team}", team)
    body = None if ROWS[key].body is None else json.dumps(ROWS[key].body).replace("{team}", team)
    return client.request(method, path, body=body)


def told(answer: urllib3.BaseHTTPResponse, team: str) -> tuple[Any, ...]:
    """All that an answer tells, with the team's name taken out."""
    headers = [answer.headers.get(name, "") for name in ("X-Error-Code", "X-Error-Message")]
    return answer.status, *(text.replace(team, "TEAM") for text in (*headers, answer.data.decode()))


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_readers_write_nothing_and_strangers_learn_nothing(server: Server) -> None:
    for team in (OURS, THEIRS):
        server.registry.create_team(team)
        server.registry.create_adapter(AdapterName(team, "a"))
    reader, before = server.client("rita", OURS, Role.READER), server.registry.newest_cursor()
    for key, row in ROWS.items():
        assert call(server.nobody, key, OURS).status == 401, key
        own = call(reader, key, OURS)
        assert own.status == row.reader, (key, own.data)
        other, absent = call(reader, key, THEIRS), call(reader, key, ABSENT)
        assert told(other, THEIRS) == told(absent, ABSENT), key
        assert other.status == (501 if row.reader == 501 else 404), (key, other.data)
    assert server.registry.newest_cursor() == before
