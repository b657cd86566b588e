"""One POST to somebody else's address: what is not connected to, not followed, not read, and not waited for."""

import socket
import time
from http.server import BaseHTTPRequestHandler

import pytest

from registry.domain.targets import Targets
from registry.domain.webhooks import Outcome
from registry.outbound.post import post
from tests.receivers import Receiver, receiver

__all__ = ["receiver"]
HERE = "127.0.0.0/8"


def send(url: str, targets: str = HERE, timeout: float = 5.0) -> Outcome:
    return post(url, b"{}", {}, targets=Targets.parse(targets), timeout=timeout)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1"])
@pytest.mark.parametrize("targets", ["public", "localhost", "10.0.0.0/8", "*.example"])
def test_nothing_is_connected_to_that_leads_to_an_address_which_may_not_be_called(
    receiver: Receiver, host: str, targets: str
) -> None:
    for scheme in ("http", "https"):
        outcome = send(f"{scheme}://{host}:{receiver.port}/", targets)
        assert outcome.status is None
        assert (outcome.error or "").startswith("webhooks may not call")
    assert receiver.connections == 0


def test_a_name_that_changes_its_mind_gains_nothing(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's answers differ from one question to the next, as a rebinding attacker's do."""
    answers = ["127.0.0.1", "127.0.0.2"]

    def resolve(_host: str, port: int, **_options: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (answers.pop(0), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = f"http://hooks.example:{receiver.port}/"
    assert send(url, "127.0.0.1").delivered  # asked once, and connected to what was judged
    assert not send(url, "127.0.0.1").delivered
    assert receiver.connections == 1


def test_what_is_allowed_arrives_whatever_the_environment_says_of_proxies(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert send(f"{receiver.url}?a=b").status == 204
    assert receiver.received[0].path == "/hook?a=b"
    assert receiver.received[0].headers["host"] == f"127.0.0.1:{receiver.port}"


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    other = Receiver()

    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(307)
        handler.send_header("Location", other.url)
        handler.end_headers()

    receiver.answers = [redirect]
    assert send(receiver.url).error == "it redirects, which is not followed (307)"
    assert other.connections == 0
    other.close()


def test_an_answer_without_end_is_read_neither_to_its_end_nor_for_ever(receiver: Receiver) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(bytes(1 << 16))

    def headers(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            handler.wfile.write(b"X: y")
            time.sleep(0.05)

    receiver.answers = [endless, headers]
    assert send(receiver.url).delivered
    started = time.monotonic()
    assert send(receiver.url, timeout=0.3).error == "no answer within 0.3 s"
    assert time.monotonic() - started < 3


def test_a_tls_handshake_without_end_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        outcome = send(f"https://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.3)
    assert outcome.error == "no answer within 0.3 s"


def test_whoever_speaks_no_http_or_is_not_there_is_told_in_our_words(receiver: Receiver) -> None:
    receiver.answers = [lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n")]
    assert send(receiver.url).error == "it broke the connection off, or answered no HTTP"
    assert send("http://127.0.0.1:9/").error == "it can't be reached"
    assert send(f"https://127.0.0.1:{receiver.port}/").error == "its certificate or TLS is not right"
