"""Webhooks over HTTP: a server tells receivers by itself, other teams nothing; quotas and tombstones as statuses."""

from collections.abc import Callable
from pathlib import Path

from registry.domain.reference import AdapterName
from registry.domain.rights import Role
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Server
from tests.receivers import Receiver, documented_verify, receiver

__all__ = ["receiver"]
PRODUCTION = "/v1/adapters/ours/a/aliases/production"


def test_two_servers_tell_a_receiver_once_of_what_is_done_over_either(
    serve: Callable[..., Server], database_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    servers = [serve(database_url, None, {"ADAPTERS_WEBHOOK_TARGETS": "127.0.0.1"}) for _ in range(2)]
    registry = servers[0].registry
    registry.add_base(TOY, toy_base())
    registry.push_folder(write_adapter(tmp_path / "a"), Submission(AdapterName("ours", "a"), ()))
    clients = [server.client() for server in servers]
    asked = {"team": "ours", "url": receiver.url, "kinds": ["alias.moved"]}
    made = clients[0].request("POST", "/v1/webhooks", json=asked)
    assert made.status == 201
    for turn in range(6):
        moved = clients[turn % 2].request("PUT", PRODUCTION, json={"version": 1}, headers={"If-Match": "*"})
        assert moved.status == 200
    receiver.wait_for(6)
    assert [message.document["data"]["payload"]["seq"] for message in receiver.received] == [1, 2, 3, 4, 5, 6]
    verify = documented_verify()
    for message in receiver.received:
        verify(made.json()["secret"], message.headers, message.body)
    path = f"/v1/webhooks/{made.json()['id']}"
    assert "secret" not in clients[1].get(path).json()
    assert clients[1].request("POST", f"{path}/test").json()["delivered"] is True


def test_another_teams_webhook_looks_like_none(server: Server) -> None:
    server.registry.create_team("theirs")
    webhook = server.registry.create_webhook("theirs", "https://localhost:9/").webhook.id
    server.registry.create_team("ours")
    server.client("ann")
    ann = server.client("ann", "ours", Role.OWNER)
    assert ann.get("/v1/webhooks").json() == {"webhooks": []}
    for method, path, body in [
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/deliveries", None),
        ("POST", "/test", None),
        ("POST", "/secret", {}),
        ("POST", "/replay", {}),
    ]:
        answers = [ann.request(method, f"/v1/webhooks/{n}{path}", json=body) for n in (webhook, 4242)]
        assert [answer.status for answer in answers] == [404, 404]
        theirs, absent = (answer.data for answer in answers)
        assert theirs.replace(str(webhook).encode(), b"4242") == absent


def test_what_is_over_a_quota_is_507_and_what_is_deleted_410(server: Server, tmp_path: Path) -> None:
    server.registry.push_folder(write_adapter(tmp_path / "a"), Submission(AdapterName("ours", "a"), ()))
    client = server.client()
    assert client.request("PUT", "/v1/teams/ours/quota", json={"bytes": 1}).json()["bytes"]["limit"] == 1
    refused = client.request("POST", "/v1/uploads", json={"team": "ours", "sha256": "1" * 64, "size": 5})
    assert (refused.status, refused.json()["detail"]["asked"]) == (507, 5)
    deleted = client.request("DELETE", "/v1/adapters/ours/a?reason=old")
    assert deleted.status == 200
    for path in ("", "/versions/1", "/resolve?ref=v1"):
        assert client.get(f"/v1/adapters/ours/a{path}").status == (200 if path == "/versions/1" else 410)
    assert client.get("/v1/adapters/ours/a/resolve?ref=production").status == 404
