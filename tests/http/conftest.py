"""A server in this process, on each database, and clients of it with tokens."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3
import uvicorn

from registry.blobs.locate import open_store
from registry.domain.rights import Role
from registry.http.app import create_app
from registry.http.counter import Protocol
from registry.http.settings import ServerSettings
from registry.service import Registry
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.factories import TOY, toy_base


@dataclass(frozen=True)
class Client:
    """Somebody with a token (or without)."""

    url: str
    token: str | None
    pool: urllib3.PoolManager

    def request(self, method: str, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        headers = dict(options.pop("headers", {}))
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        return self.pool.request(method, self.url + path, headers=headers, retries=False, redirect=False, **options)

    def get(self, path: str, **options: Any) -> urllib3.BaseHTTPResponse:
        return self.request("GET", path, **options)


@dataclass(frozen=True)
class Server:
    """A running server: `registry` is its service with an operator's rights, for arranging things."""

    url: str
    registry: Registry
    pool: urllib3.PoolManager

    def client(self, principal: str | None = None, team: str | None = None, role: Role = Role.OWNER) -> Client:
        """A client with a token of its own; without a principal an operator."""
        secret = self.registry.create_token("test", principal=principal or "root", operator=principal is None).secret
        if team:
            self.registry.set_role(team, principal or "root", role)
        return Client(self.url, secret, self.pool)

    @property
    def nobody(self) -> Client:
        return Client(self.url, None, self.pool)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers on free ports, by a database's URL and a store's; they end with the test."""
    with ExitStack() as stack:

        def start(
            database_url: str, blobs_url: str | None = None, environment: Mapping[str, str] | None = None
        ) -> Server:
            blobs_url = blobs_url or (tmp_path / "blobs").as_uri()
            return stack.enter_context(running(database_url, blobs_url, environment))

        yield start


@contextmanager
def running(database_url: str, blobs_url: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on a free port, with the settings that an environment names."""
    database = Database(database_url)
    ensure_schema(database, migrate=True)
    registry = Registry(database, open_store(blobs_url))
    environment = environment or {}
    targets = environment.get("ADAPTERS_WEBHOOK_TARGETS", "public")

    def open_registry() -> Registry:
        return Registry(Database(database_url), open_store(blobs_url), webhook_targets=targets)

    server, thread = _run(open_registry, environment)
    port = server.servers[0].sockets[0].getsockname()[1]
    pool = urllib3.PoolManager()
    try:
        yield Server(f"http://127.0.0.1:{port}", registry, pool)
    finally:
        server.should_exit = True
        thread.join()
        pool.clear()
        registry.close()


def _run(
    open_registry: Callable[[], Registry], environment: Mapping[str, str]
) -> tuple[uvicorn.Server, threading.Thread]:
    settings = ServerSettings.from_environment(environment, host="127.0.0.1", port=0)
    app = create_app(open_registry, settings)
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http=Protocol,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        log_level="warning",
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    return server, thread


@pytest.fixture
def server(serve: Callable[..., Server], database_url: str) -> Server:
    """A server whose registry knows the toy base."""
    running = serve(database_url)
    running.registry.add_base(TOY, toy_base())
    return running
