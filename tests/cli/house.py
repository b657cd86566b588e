"""A server in this process, into which one registry after another moves: starting one for each test would take long."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from starlette.types import Receive, Scope, Send

from composition.worker import Worker
from registry.bootstrap import open_registry
from registry.http.app import create_app, furnish
from registry.http.settings import ServerSettings
from registry.service import Registry


class House:
    """A running server: an ASGI application that passes requests on to that of whoever lives there."""

    def __init__(self, settings: ServerSettings, own: Registry) -> None:
        self._settings = settings
        self._app = self._own = create_app(lambda: own, settings)
        self._guest: Registry | None = None
        self._stop_worker: Callable[[], None] = lambda: None

    @property
    def url(self) -> str:
        return self._settings.public_url

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._own if scope["type"] == "lifespan" else self._app)(scope, receive, send)

    def move_in(self, home: Path) -> str:
        """Serve the registry of a folder; returns the token of whoever owns it."""
        guest = open_registry({"ADAPTERS_HOME": str(home)})
        app = create_app(lambda: guest, self._settings)  # a fresh one: what it remembers is of one registry
        furnish(app, guest)
        self._app, self._guest = app, guest
        self._stop_worker = _start_worker(home)
        return guest.create_token("test", operator=True).secret

    def move_out(self) -> None:
        """Let go of the registry that is served."""
        self._stop_worker()
        self._stop_worker = lambda: None
        if self._guest:
            self._guest.close()
        self._app, self._guest = self._own, None


def _start_worker(home: Path) -> Callable[[], None]:
    """A thread that does what `adapters worker` does; returns what ends it."""
    stopping = threading.Event()
    registry = open_registry({"ADAPTERS_HOME": str(home)})
    thread = threading.Thread(target=Worker(registry, "house", stopping).run, daemon=True)
    thread.start()

    def stop() -> None:
        stopping.set()
        thread.join()
        registry.close()

    return stop


@contextmanager
def open_house(home: Path) -> Iterator[House]:
    """Start the server with a registry of its own in `home`, and end it."""
    own = open_registry({"ADAPTERS_HOME": str(home)})
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    settings = ServerSettings.from_environment({}, host="127.0.0.1", port=port)
    house = House(settings, own)
    server = uvicorn.Server(uvicorn.Config(house, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield house
    server.should_exit = True
    thread.join()
    listening.close()
