"""Watching: every event that one may see, once, in order, over reconnections and several workers."""

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Client, Server

OURS = AdapterName("ours", "a")
V1 = Reference.parse("ours/a@v1")
JSON = {"Accept": "application/json"}


@pytest.fixture
def watched(server: Server, tmp_path: Path) -> Server:
    """A server with an adapter of ours."""
    server.registry.push_folder(write_adapter(tmp_path / "a"), Submission(name=OURS, files=()))
    return server


def poll(client: Client, cursor: int, wait: float = 0) -> dict[str, Any]:
    answer = client.get(f"/v1/watch?cursor={cursor}&wait={wait}", headers=JSON)
    assert answer.status == 200, answer.data
    document: dict[str, Any] = answer.json()
    return document


def stream(client: Client, **headers: str) -> Iterator[dict[str, Any]]:
    """The events of a stream; it ends when the server ends it."""
    answer = client.get("/v1/watch", headers=headers, preload_content=False, timeout=20)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    lines = (line for chunk in answer.stream(1) for line in [chunk])
    text = b""
    try:
        for byte in lines:
            text += byte
            if text.endswith(b"\n\n"):
                fields = dict(line.split(": ", 1) for line in text.decode().strip().split("\n"))
                yield fields
                text = b""
    finally:
        answer.close()


def test_a_poll_tells_what_happened_and_where_to_go_on(watched: Server) -> None:
    client = watched.client()
    everything = poll(client, 0)
    assert [event["kind"] for event in everything["events"]] == ["base.added", "commit.added"]
    assert everything["cursor"] == watched.registry.newest_cursor()
    assert poll(client, everything["cursor"]) == {"events": [], "cursor": everything["cursor"]}


def test_a_waiting_poll_answers_as_soon_as_something_happens(watched: Server) -> None:
    client = watched.client()
    cursor = watched.registry.newest_cursor()
    timer = threading.Timer(0.3, watched.registry.promote, (V1, "production"))
    timer.start()
    found = poll(client, cursor, wait=30)
    assert [event["payload"]["alias"] for event in found["events"]] == ["production"]


def test_nobody_sees_events_of_a_team_that_they_may_not_read(watched: Server) -> None:
    stranger = watched.client("bob")
    found = poll(stranger, 0)
    assert [event["kind"] for event in found["events"]] == ["base.added"]
    assert found["cursor"] == watched.registry.newest_cursor()


def test_a_cursor_that_was_never_given_is_refused(watched: Server) -> None:
    answer = watched.client().get("/v1/watch?cursor=999999", headers=JSON)
    assert (answer.status, answer.json()["error"]) == (400, "wrong_usage")


def test_a_stream_goes_on_where_it_broke(watched: Server) -> None:
    client = watched.client()
    events = stream(client, **{"Last-Event-ID": "0"})
    next(events)  # where it begins
    first = next(events)
    events.close()
    resumed = stream(client, **{"Last-Event-ID": first["id"]})
    next(resumed)
    second = next(resumed)
    resumed.close()
    assert (first["event"], second["event"]) == ("base.added", "commit.added")
    assert json.loads(second["data"])["name"] == "ours/a"


def test_a_stream_ends_when_its_token_is_revoked(watched: Server) -> None:
    client = watched.client("bob", "ours", Role.READER)
    events = stream(client, **{"Last-Event-ID": str(watched.registry.newest_cursor())})
    next(events)
    (token,) = [token for token in watched.registry.tokens() if token.principal == "bob"]
    watched.registry.revoke_token(token.id)
    watched.registry.promote(V1, "production")
    assert [fields["event"] for fields in events] == ["error"]


def test_two_workers_tell_every_move_once_and_in_order(
    serve: Callable[[str], Server], database_url: str, tmp_path: Path
) -> None:
    first, second = serve(database_url), serve(database_url)
    registry = first.registry
    registry.push_folder(write_adapter(tmp_path / "a"), Submission(name=OURS, files=()))
    start = registry.newest_cursor()
    writers = [threading.Thread(target=_move, args=(server.registry, 10)) for server in (first, second)]
    for writer in writers:
        writer.start()
    client, seen, cursor = second.client(), [], start
    while len(seen) < 20:
        found = poll(client, cursor, wait=10)
        seen += found["events"]
        cursor = found["cursor"]
    for writer in writers:
        writer.join()
    moves = [event for event in seen if event["kind"] == "alias.moved"]
    assert [move["payload"]["seq"] for move in moves] == list(range(1, 21))
    assert [event["cursor"] for event in seen] == sorted({event["cursor"] for event in seen})


def _move(registry: Registry, times: int) -> None:
    for _ in range(times):
        registry.promote(V1, "production")
