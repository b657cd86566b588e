"""What routes do beyond passing on: conditions, pages, batches, bounds, and what is seen of a request."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cli.remote.connection import Connection
from cli.remote.registry import RemoteRegistry
from registry.domain.reference import AdapterName
from registry.http.limits import MOST
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server

NAME = AdapterName("ours", "a")
A = "/v1/adapters/ours/a"
PRODUCTION = f"{A}/aliases/production"


@pytest.fixture
def filled(server: Server, tmp_path: Path) -> Server:
    """Two versions of ours/a: one of rank 4, and one of rank 8 with rsLoRA."""
    for number, (rank, rslora) in enumerate([(4, False), (8, True)]):
        folder = write_adapter(tmp_path / str(number), seed=number, rank=rank, use_rslora=rslora)
        server.registry.push_folder(folder, Submission(name=NAME, files=(), message=f"try {number}"))
    return server


# -- aliases ----------------------------------------------------------------------------------------------------------


def move(client: Client, version: int, **headers: str) -> tuple[int, str | None]:
    conditions = {key.replace("_", "-"): value for key, value in headers.items()}
    answer = client.request("PUT", PRODUCTION, json={"version": version}, headers=conditions)
    return answer.status, answer.headers.get("ETag")


def test_a_move_needs_to_say_which_state_was_seen(filled: Server) -> None:
    client = filled.client()
    assert move(client, 1) == (428, None)
    assert move(client, 1, If_Match='"1"') == (412, None)
    assert move(client, 1, If_None_Match="*") == (200, '"1"')
    assert move(client, 2, If_None_Match="*") == (412, None)
    assert client.get(PRODUCTION).headers["ETag"] == '"1"'
    assert move(client, 2, If_Match='"1"') == (200, '"2"')
    assert move(client, 1, If_Match='"1"') == (412, None)
    assert move(client, 1, If_Match="*") == (200, '"3"')
    for wrong in ({"If_Match": "3"}, {"If_None_Match": '"3"'}, {"If_Match": '"3"', "If_None_Match": "*"}):
        assert move(client, 2, **wrong) == (400, None)


def test_of_many_who_saw_the_same_state_one_moves_the_alias(filled: Server) -> None:
    client = filled.client()
    with ThreadPoolExecutor(8) as pool:
        for seq in range(4):
            conditions = {"If_Match": f'"{seq}"'} if seq else {"If_None_Match": "*"}
            outcomes = list(pool.map(lambda n, seen=conditions: move(client, n % 2 + 1, **seen)[0], range(8)))
            assert sorted(outcomes) == [200] + [412] * 7
    assert client.get(PRODUCTION).json()["seq"] == 4


def test_an_alias_goes_back_and_away_and_keeps_its_history(filled: Server) -> None:
    client = filled.client()
    for version in (1, 2):
        move(client, version, If_Match="*")
    stale = client.request("POST", f"{PRODUCTION}/rollback", headers={"If-Match": '"1"'})
    back = client.request("POST", f"{PRODUCTION}/rollback", json={"to": 1, "reason": "worse"})
    assert (stale.status, back.json()["after"], back.json()["reason"]) == (412, 1, "worse")
    assert client.request("POST", f"{PRODUCTION}/rollback").json()["error"] == "no_rollback_target"
    assert client.request("DELETE", PRODUCTION, headers={"If-Match": '"3"'}).json()["kind"] == "delete"
    assert client.get(PRODUCTION).status == 404
    moves = client.get(f"{PRODUCTION}/history").json()["moves"]
    assert [line["kind"] for line in moves] == ["delete", "rollback", "promote", "promote"]


# -- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_look_up_tells_addresses_and_what_an_engine_makes_of_it(filled: Server) -> None:
    client = filled.client()
    found = client.get(f"{A}/resolve?ref=v2&engine=sglang").json()
    assert found["engine_compat"]["ok"] is False
    assert "issues/40835" in found["engine_compat"]["reasons"][0]
    assert found["files"][0]["url"].endswith(f"{A}/versions/2/files/README.md")
    assert client.get(f"{A}/resolve?engine=vLLM").json()["engine_compat"]["ok"] is True
    assert client.get(f"{A}/resolve?engine=ollama").json()["error"] == "unknown_engine"
    assert client.get(f"{A}/resolve?ref=v2&max_rank=4").status == 409
    assert client.get(f"{A}/resolve?base=other/base").status == 409


def test_a_batch_answers_each_reference_for_itself_as_a_look_up_would(filled: Server) -> None:
    client = filled.client()
    refs = ["ours/a", "ours/a@v2", "ours/none", "ours/a@v9", "no reference"]
    answers = client.request("POST", "/v1/resolve", json={"refs": refs, "max_rank": 4}).json()["answers"]
    assert [(line["ref"], line["status"]) for line in answers] == list(
        zip(refs, [409, 409, 404, 404, 400], strict=True)
    )
    (line,) = client.request("POST", "/v1/resolve", json={"refs": ["ours/a@v1"]}).json()["answers"]
    assert line["answer"] == client.get(f"{A}/resolve?ref=v1").json()
    assert client.request("POST", "/v1/resolve", json={"refs": ["ours/a"] * 1001}).status == 422


# -- lists ------------------------------------------------------------------------------------------------------------


def test_without_conditions_adapters_are_listed_and_with_them_versions_are_found(filled: Server) -> None:
    client = filled.client()
    assert [a["name"] for a in client.get("/v1/adapters").json()["adapters"]] == ["ours/a"]
    for query, found in (
        ("rank=8", [2]),
        ("rank_min=1", [2, 1]),
        ("target=q_proj&target=v_proj", [2, 1]),
        ("text=try&status=any", [2, 1]),
        ("metric=f1%3E%3D0.5", []),
        (f"base={TOY}&rank_max=4", [1]),
    ):
        assert [v["version"] for v in client.get(f"/v1/adapters?{query}").json()["versions"]] == found
    for wrong in ("metric=f1", "status=gone", "cursor=x&rank=8", "limit=0", "text=%00", "base=%00"):
        assert client.get(f"/v1/adapters?{wrong}").status in (400, 422), wrong


def test_pages_follow_each_other_to_the_end(filled: Server) -> None:
    client, seen, cursor = filled.client(), [], ""
    while cursor is not None:
        page = client.get(f"{A}/versions?limit=1{cursor}").json()
        seen.extend(version["version"] for version in page["versions"])
        cursor = f"&cursor={page['cursor']}" if page["cursor"] else None
    assert seen == [2, 1]


def test_a_base_is_registered_by_its_index_and_comes_back_the_same(server: Server) -> None:
    client, index = server.client(), toy_base("other").to_document()
    added = client.request("POST", "/v1/bases", json={"name": "acme/other", "index": index})
    assert added.json()["fingerprint"] == toy_base("other").fingerprint
    assert client.get("/v1/bases/index?name=acme/other").json() == index
    assert client.get("/v1/bases/acme/other").json() == {**added.json(), "published": []}
    twice = {**index, "tensors": index["tensors"] * 2}
    assert client.request("POST", "/v1/bases", json={"name": "acme/twice", "index": twice}).status == 400


# -- tokens -----------------------------------------------------------------------------------------------------------


def test_a_tokens_secret_is_shown_once_and_opens_the_door(server: Server) -> None:
    client = server.client("bob")
    made = client.request("POST", "/v1/tokens", json={"name": "ci", "scopes": ["read"]})
    assert made.headers["Cache-Control"] == "no-store"
    narrow = Client(server.url, made.json()["token"], server.pool)
    assert narrow.get("/v1/me").json()["scopes"] == ["read"]
    assert "token" not in client.get("/v1/tokens").json()["tokens"][0]
    assert narrow.request("POST", "/v1/tokens", json={"name": "wide", "scopes": ["admin"]}).status == 403
    assert client.request("POST", "/v1/tokens", json={"name": "x", "principal": "ann"}).status == 403
    assert client.request("DELETE", f"/v1/tokens/{made.json()['id']}").json()["revoked_at"]


# -- what is seen of a request ----------------------------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: Server) -> None:
    body = json.dumps({"refs": ["x" * (MOST + 1)]}).encode()
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        content = {"Content-Type": "application/json", **headers}
        answer = server.client().request("POST", "/v1/resolve", body=body, headers=content)
        assert (answer.status, answer.json()["error"]) == (413, "body_too_large")


def test_a_request_keeps_its_id_or_gets_one(server: Server) -> None:
    assert server.nobody.get("/healthz", headers={"X-Request-ID": "trace-7"}).headers["X-Request-ID"] == "trace-7"
    for wrong in ("", "two words", "x" * 200):
        given = server.nobody.get("/healthz", headers={"X-Request-ID": wrong}).headers["X-Request-ID"]
        assert given not in (wrong, "") and len(given) == 16


def test_figures_are_of_routes_and_never_of_names(filled: Server) -> None:
    client = filled.client()
    for _ in range(3):
        client.get(f"{A}/resolve")
    client.get("/v1/adapters/ours/none")
    client.get("/wp-login.php")
    text = filled.nobody.get("/metrics").data.decode()
    look_up = 'adapters_http_requests_total{method="GET",route="/v1/adapters/{team}/{name}/resolve",status="200"}'
    assert f"{look_up} 3.0" in text
    assert 'route="/v1/adapters/{team}/{name}",status="404"' in text
    assert 'route="unmatched",status="404"' in text
    assert "ours" not in text and "wp-login" not in text


def test_a_line_of_log_says_who_asked_for_what_and_holds_no_secret(
    filled: Server, caplog: pytest.LogCaptureFixture
) -> None:
    client = filled.client("bob", "ours")
    with caplog.at_level(logging.INFO, logger="adapters.access"):
        for _ in range(2):
            client.get(f"{A}/resolve?base={TOY}", headers={"X-Request-ID": "trace-7"})
        while len(lines := _access_log(caplog)) < 2:  # they are written several times a second
            time.sleep(0.01)
    assert [(line["request_id"], line["caller"], line["status"], line["path"]) for line in lines] == [
        ("trace-7", "bob", 200, f"{A}/resolve")
    ] * 2
    assert client.token is not None and client.token not in caplog.text


def test_a_page_of_a_remote_listing_is_one_request(filled: Server) -> None:
    client = filled.client()
    assert client.token is not None
    remote = RemoteRegistry(Connection(filled.url, client.token))
    assert remote.listing() == filled.registry.listing()
    text = filled.nobody.get("/metrics").data.decode()
    counts = [line for line in text.splitlines() if line.startswith("adapters_http_requests_total{")]
    assert counts == ['adapters_http_requests_total{method="GET",route="/v1/adapters",status="200"} 1.0']
    remote.close()


def _access_log(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    texts = [record.message for record in caplog.records if record.name == "adapters.access"]
    return [json.loads(line) for text in texts for line in text.splitlines()]
