"""An HTTP proxy before an S3 server that does to requests and answers what broken networks and servers do."""

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """`cut_at`: so many bytes of the body are sent, then the connection is dropped; -1 drops it before the head."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_at: int | None = None


Server = Callable[[Request], Answer]
Fault = Callable[[Request, Server], Answer]


class FaultyProxy:
    """Forwards to `upstream`; `fault`, if any, stands between a request and the server. `seen` lists the requests."""

    def __init__(self, upstream: str) -> None:
        self.seen: list[Request] = []
        self.fault: Fault | None = None
        self._upstream = urlsplit(upstream).netloc

    def answer(self, request: Request) -> Answer:
        self.seen.append(request)
        return self.fault(request, self._forward) if self.fault else self._forward(request)

    def _forward(self, request: Request) -> Answer:
        connection = http.client.HTTPConnection(self._upstream)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
        finally:
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: ClassVar[FaultyProxy]

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.proxy.answer(Request(self.command, self.path, dict(self.headers.items()), body))
        with suppress(ConnectionError):  # the client may have had enough
            self._send(answer)

    def _send(self, answer: Answer) -> None:
        if answer.cut_at != -1:
            self._send_head(answer)
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut_at])
        if answer.cut_at is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def _send_head(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in ({"content-length": str(len(answer.body))} | answer.headers).items():
            if name not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.end_headers()

    def handle_expect_100(self) -> bool:
        self.send_response_only(100)
        self.end_headers()
        return True

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running(proxy: FaultyProxy) -> Iterator[str]:
    """The proxy's endpoint URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def first(times: int, wanted: Callable[[Request], bool], fault: Fault) -> Fault:
    """A fault that happens to the first so many requests of a kind."""
    left = times

    def happen(request: Request, server: Server) -> Answer:
        nonlocal left
        if left > 0 and wanted(request):
            left -= 1
            return fault(request, server)
        return server(request)

    return happen


def cut_body(at: int) -> Fault:
    return lambda request, server: replace(server(request), cut_at=at)


def lose_answer(request: Request, server: Server) -> Answer:
    """The server did it, and the client never hears of it."""
    server(request)
    return Answer(200, cut_at=-1)


def flip_answer(request: Request, server: Server) -> Answer:
    answer = server(request)
    return replace(answer, body=flipped(answer.body))


def flip_request(request: Request, server: Server) -> Answer:
    return server(replace(request, body=flipped(request.body)))


def flipped(body: bytes) -> bytes:
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :] if body else body


def refuse(status: int, code: str) -> Fault:
    body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
    return lambda _request, _server: Answer(status, {"content-type": "application/xml"}, body)


def pretend(_request: Request, _server: Server) -> Answer:
    """A 200 for something that never happened."""
    return Answer(200, {"etag": '"d41d8cd98f00b204e9800998ecf8427e"'})
