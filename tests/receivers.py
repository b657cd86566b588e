"""Somebody who receives webhooks: a real HTTP server in a thread that answers as it is told, and notes what comes."""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "webhooks.md"
OK = 204


@dataclass(frozen=True)
class Received:
    """A message as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def cursor(self) -> int:
        return int(self.document["data"]["cursor"])


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    connections = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are what this is about."""


class Receiver:
    """Answers with what stands in `answers`, one message after another, then with 204. A status, or what to do."""

    def __init__(self) -> None:
        self.answers: list[int | Callable[[BaseHTTPRequestHandler], object]] = []
        self.received: list[Received] = []
        self.came = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                with receiver.came:
                    receiver.received.append(Received(self.path, headers, body))
                    answer = receiver.answers.pop(0) if receiver.answers else OK
                    receiver.came.notify_all()
                if callable(answer):
                    answer(self)
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def connections(self) -> int:
        return self._server.connections

    @property
    def cursors(self) -> list[int]:
        return [message.cursor for message in self.received]

    def wait_for(self, count: int) -> None:
        """Wait until so many messages came."""
        with self.came:
            assert self.came.wait_for(lambda: len(self.received) >= count, 20), f"only {len(self.received)} came"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Somebody who receives webhooks at 127.0.0.1."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def documented_verify() -> Callable[[str, Mapping[str, str], bytes], None]:
    """The function by which docs/webhooks.md tells receivers to verify what comes."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    verify: Callable[[str, Mapping[str, str], bytes], None] = names["verify"]
    return verify
