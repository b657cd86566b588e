"""Who gets in over HTTP: tokens, guesses, names of hosts, and the shape of every refusal."""

import json

import pytest

from registry.http.access import FAILURES
from tests.http.conftest import Client, Server

RESOLVE = "/v1/adapters/ours/a/resolve"


def test_without_a_token_only_health_is_told(server: Server) -> None:
    assert server.nobody.get("/healthz").status == 200
    assert server.nobody.get("/readyz").json()["ready"] is True
    refused = server.nobody.get(RESOLVE)
    assert refused.status == 401
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert refused.json()["error"] == "not_authenticated"


def test_a_token_opens_the_door_until_it_is_revoked(server: Server) -> None:
    client = server.client("bob")
    assert client.get(RESOLVE).json()["error"] == "adapter_not_found"
    (token,) = [t for t in server.registry.tokens() if t.principal == "bob"]
    server.registry.revoke_token(token.id)
    assert client.get(RESOLVE).status == 401


def test_whoever_keeps_guessing_has_to_wait_and_whoever_came_in_before_does_not(server: Server) -> None:
    known, revoked = server.client("bob"), server.client("eve")
    assert {client.get(RESOLVE).status for client in (known, revoked)} == {404}
    (token,) = [t for t in server.registry.tokens() if t.principal == "eve"]
    server.registry.revoke_token(token.id)
    guesses = [Client(server.url, f"adp_{n}", server.pool).get(RESOLVE).status for n in range(FAILURES + 1)]
    assert guesses == [401] * FAILURES + [429]
    late = Client(server.url, "adp_late", server.pool).get(RESOLVE)
    assert 0 < int(late.headers["Retry-After"]) <= 60
    assert [known.get(RESOLVE).status for _ in range(2)] == [404, 404]
    assert [revoked.get(RESOLVE).status for _ in range(2)] == [401, 429]


def test_a_server_is_called_by_its_own_name_only(server: Server) -> None:
    assert server.nobody.get("/healthz", headers={"Host": "attacker.example"}).status == 400


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/adapters/ours/a/resolve?max_rank=many"])
def test_every_refusal_has_the_one_shape(server: Server, path: str) -> None:
    answer = json.loads(server.client().get(path).data)
    assert set(answer) == {"error", "message", "hint", "detail"}
