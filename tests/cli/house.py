"""A server in this process, into which one registry after another moves: starting one for each test would take long."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from registry.bootstrap import open_registry
from registry.http.app import create_app
from registry.http.settings import ServerSettings
from registry.service import Registry


@dataclass(slots=True)
class House:
    """A running server."""

    url: str
    app: FastAPI
    own: Registry

    def move_in(self, home: Path) -> str:
        """Serve the registry of a folder; returns the token of whoever owns it."""
        registry = open_registry({"ADAPTERS_HOME": str(home)})
        self.app.state.registry = registry
        return registry.create_token("test", operator=True).secret

    def move_out(self) -> None:
        """Let go of the registry that is served."""
        if self.app.state.registry is not self.own:
            self.app.state.registry.close()
            self.app.state.registry = self.own


@contextmanager
def open_house(home: Path) -> Iterator[House]:
    """Start the server with a registry of its own in `home`, and end it."""
    own = open_registry({"ADAPTERS_HOME": str(home)})
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    settings = ServerSettings.from_environment({}, host="127.0.0.1", port=port)
    app = create_app(lambda: own, settings)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield House(settings.public_url, app, own)
    server.should_exit = True
    thread.join()
    listening.close()
