"""A connection to a server that misbehaves in every way that we can think of."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.remote import connection as module
from cli.remote.connection import ATTEMPTS, Connection
from registry.domain.errors import AdapterNotFound, Failure, ServerFailure, StaleSequence, WrongUsage


class Quiet(ThreadingHTTPServer):
    """A server that takes clients which hang up for granted."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


class Script:
    """A server that answers with what stands in its list, one request after another; notes what it was asked."""

    def __init__(self) -> None:
        self.answers: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.asked.append((self.command, self.path, dict(self.headers), body))
                script.answers.pop(0)(self)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def tokens(self) -> list[str | None]:
        return [headers.get("Authorization") for _, _, headers, _ in self.asked]


def answer(document: object, status: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = "Content_Length" in headers

    return send


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.001)


@pytest.fixture
def other() -> Iterator[Script]:
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    yield script
    script.server.shutdown()
    script.server.server_close()


@pytest.fixture
def server(script: Script) -> Iterator[Connection]:
    connection = Connection(script.url, "adp_secret")
    yield connection
    connection.close()


def test_a_question_outlives_failures_that_pass(script, server):
    script.answers = [hang_up, answer({}, 503), answer({"half": 1}, Content_Length="50"), answer({"a": 1})]
    assert server.get("/x", {"q": ["b", "c"], "none": None, "yes": True}) == {"a": 1}
    assert {path for _, path, _, _ in script.asked} == {"/x?q=b&q=c&yes=true"}


def test_a_change_is_sent_once_unless_it_has_a_key(script, server):
    script.answers = [hang_up]
    with pytest.raises(ServerFailure, match="can't be reached"):
        server.request("POST", "/x", json={})
    assert len(script.asked) == 1
    script.answers = [hang_up, answer({"a": 1})]
    assert server.request("POST", "/x", json={}, headers={"Idempotency-Key": "k"}).document == {"a": 1}


def test_somebody_who_is_never_there_is_given_up(script, server):
    script.answers = [hang_up] * 10
    with pytest.raises(ServerFailure):
        server.get("/x")
    assert len(script.asked) == ATTEMPTS


def test_an_upload_is_repeated_from_its_beginning(script, server):
    script.answers = [hang_up, answer({})]
    server.transmit("PUT", "/x", body=lambda: iter([b"ab", b"cd"]), size=4)
    assert [body for _, _, _, body in script.asked] == [b"abcd", b"abcd"]


def test_a_token_never_leaves_its_origin(script, server, other):
    other.answers = [answer(b"bytes"), answer({})]
    script.answers = [answer(b"", 302, Location=f"{other.url}/stored")]
    with server.stream("/file") as response:
        assert response.read() == b"bytes"
    server.transmit("PUT", f"{other.url}/part", body=lambda: [b"x"], size=1)
    assert script.tokens == ["Bearer adp_secret"]
    assert other.tokens == [None, None]


def test_a_question_is_not_redirected(script, server, other):
    script.answers = [answer({}, 307, Location=f"{other.url}/v1/me")]
    with pytest.raises(ServerFailure, match="redirects to"):
        server.get("/v1/me")
    assert other.asked == []


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (404, AdapterNotFound("a/b"), AdapterNotFound("a/b")),
        (412, StaleSequence("a/b", "production", 3, 4), StaleSequence("a/b", "production", 3, 4)),
        (400, WrongUsage("no"), WrongUsage("no")),
    ],
)
def test_an_error_comes_back_as_what_it_was(script, server, status, document, expected):
    told = {"error": document.code, "message": document.message, "hint": document.hint, "detail": document.detail}
    script.answers = [answer(told, status)]
    with pytest.raises(type(expected)) as caught:
        server.get("/x")
    assert (caught.value.message, caught.value.hint, caught.value.detail) == (
        expected.message,
        expected.hint,
        expected.detail,
    )


@pytest.mark.parametrize(
    ("document", "kind", "text"),
    [
        ({"error": "wrong_usage", "message": "of validation", "detail": {"problems": []}}, WrongUsage, "of validation"),
        ({"error": "adapter_not_found", "message": "new words", "detail": {"name": "a/b"}}, Failure, "new words"),
        ({"error": "adapter_not_found", "message": "m", "detail": {"name": ["{"], "x": 1}}, Failure, "m"),
        ({"error": "of_tomorrow", "message": "later", "detail": {}}, ServerFailure, "later"),
        ({"error": 3}, ServerFailure, "status 422"),
        (b"<html>", ServerFailure, "status 422"),
        (b"[" * 100_000, ServerFailure, "status 422"),
    ],
)
def test_an_error_of_another_version_is_told_in_its_own_words(script, server, document, kind, text):
    script.answers = [answer(document, 422)]
    with pytest.raises(kind, match=text):
        server.get("/x")


def test_an_answer_without_end_is_cut_off(script, server, monkeypatch):
    monkeypatch.setattr(module, "MOST", 1 << 20)
    script.answers = [answer(b"1" * (2 << 20))]
    with pytest.raises(ServerFailure, match="longer than 1 MB"):
        server.get("/x")


def test_what_is_no_json_is_said(script, server):
    script.answers = [answer(b"<html>")]
    with pytest.raises(ServerFailure, match="not JSON"):
        server.get("/x")
