"""Over the counter or through the application: the same answers, in order, and only to whom they are due."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from registry.domain.reference import AdapterName, Reference
from registry.http.answers import Desk
from registry.http.counter import Counter, Headers
from registry.http.metrics import Metrics
from registry.http.observing import Record
from registry.http.shelf import Answer
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.http.conftest import Client, Server

PATH, QUERY = b"/v1/adapters/ours/a/resolve", b"ref=production"
URL = PATH + b"?" + QUERY
HOST = (b"Host".lower(), b"127.0.0.1:8321")
ALWAYS: Headers = [(b"date", b"today")]


@pytest.fixture
def filled(server: Server, tmp_path: Path) -> Server:
    server.registry.push_folder(write_adapter(tmp_path / "a"), Submission(name=AdapterName("ours", "a"), files=()))
    server.registry.promote(Reference.parse("ours/a@v1"), "production")
    return server


def test_the_counter_hands_out_what_is_kept_and_nothing_else(filled: Server) -> None:
    secret = filled.client().token
    assert secret is not None

    async def main() -> None:
        desk = Desk(filled.registry)
        counter = Counter(desk, Record(Metrics()), ["127.0.0.1"])
        token = (b"authorization", b"Bearer " + secret.encode())

        def handed_out(url: bytes = URL, *headers: tuple[bytes, bytes]) -> bytes | None:
            pieces = counter.answer(url, [HOST, token, *headers], client=None, always=ALWAYS)
            return None if pieces is None else b"".join(pieces)

        assert handed_out() is None  # nobody is known yet, and nothing is fresh
        known = await desk.doorkeeper.admit(secret, "")
        await desk.freshness.ensure()  # that the token was used has been noted: a commit
        assert handed_out() is None
        desk.shelf.put((known.readable, PATH, QUERY), Answer("ours/a", 200, [(b"etag", b'"t"')], b"{}"))
        whole = handed_out(URL, (b"x-request-id", b"mine"))
        assert whole == b'HTTP/1.1 200 OK\r\ndate: today\r\netag: "t"\r\nx-request-id: mine\r\n\r\n{}'
        seen = handed_out(URL, (b"if-none-match", b'"t"'), (b"connection", b"Keep-Alive"))
        assert seen is not None and seen.startswith(b"HTTP/1.1 304 Not Modified\r\n") and seen.endswith(b"\r\n\r\n")
        for other in (PATH, URL + b"&x=1", b"/v1/adapters/ours/%61/resolve?" + QUERY, b"http://127.0.0.1" + URL):
            assert handed_out(other) is None
        for name, value in ((b"host", b"evil"), (b"content-length", b"1"), (b"connection", b"close"), token):
            assert handed_out(URL, (name, value)) is None
        for wrong in ([], [(b"authorization", b"Bearer adp_guess")], [(b"authorization", b"Basic x")]):
            assert counter.answer(URL, [HOST, *wrong], client=None, always=ALWAYS) is None
        assert counter.answer(URL, [(b"host", b"evil"), token], client=None, always=ALWAYS) is None
        await asyncio.to_thread(filled.registry.revoke_token, filled.registry.tokens()[0].id)
        assert handed_out() is None
        await desk.freshness.close()

    asyncio.run(main())


def test_both_ways_give_the_same_answer(filled: Server) -> None:
    client = filled.client()
    roundabout = {"Content-Length": "0", "X-Request-ID": "same"}
    for more in ({}, {"If-None-Match": client.get(URL.decode()).headers["ETag"]}):
        for _ in range(2):
            direct = client.get(URL.decode(), headers={"X-Request-ID": "same", **more})
        routed = client.get(URL.decode(), headers={**roundabout, **more})
        found = [{k: v for k, v in one.headers.items() if k.lower() != "date"} for one in (direct, routed)]
        assert (direct.status, direct.data, found[0]) == (routed.status, routed.data, found[1])


def test_requests_in_one_packet_are_answered_in_their_order(filled: Server) -> None:
    client = filled.client()
    kept = client.get(URL.decode()).data
    requests = [_request(client, path) for path in (URL.decode(), "/v1/teams", URL.decode(), "/v1/ping", URL.decode())]
    with socket.create_connection(("127.0.0.1", urlsplit(filled.url).port)) as connection:
        connection.sendall(b"".join(requests))
        text = b""
        while text.count(b"HTTP/1.1 200 OK") < 5 or not text.endswith(kept):
            received = connection.recv(65536)
            assert received, text
            text += received
    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in text.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert (bodies[0], bodies[2], bodies[3], bodies[4]) == (kept, kept, b"{}", kept)
    assert bodies[1].startswith(b'{"teams"')


def _request(client: Client, path: str) -> bytes:
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {client.token}", "", ""]
    return "\r\n".join(lines).encode()
