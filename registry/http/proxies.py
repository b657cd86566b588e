"""The host that a client dialled, where a proxy in front of the server puts its own name into `Host`.

Only the proxies that the settings trust are believed, and only when they name a host that the server has: what they
pass on of their clients' own headers can name any. The address that a request comes from is noted by
`registry.http.counter.Protocol`, before the server's library replaces it by the client's.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address, ip_network

from starlette.types import ASGIApp, Receive, Scope, Send

from registry.http.settings import ServerSettings

PEER = "peer"  # in a connection's state: the address at its other end
PREFIX = "prefix"  # in a request's state: the path below which a proxy has the server
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?", re.ASCII)
_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+", re.ASCII)


class Dialled:
    """Middleware that puts back what the client dialled."""

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in settings.hosts)
        self._proxies = [ip_network(proxy) for proxy in settings.trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._proxies and scope["type"] == "http" and self._is_trusted(scope):
            self._put_back(scope)
        await self._app(scope, receive, send)

    def _is_trusted(self, scope: Scope) -> bool:
        peer = scope.get("state", {}).get(PEER)
        if peer is None:
            return False
        address = ip_address(peer[0])
        return any(address in proxy for proxy in self._proxies)

    def _put_back(self, scope: Scope) -> None:
        host = _HOST.fullmatch(_last(scope["headers"], b"x-forwarded-host"))
        if host and host[1].strip("[]").lower() in self._hosts:
            others = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [(b"host", host[0].encode()), *others]
        prefix = _last(scope["headers"], b"x-forwarded-prefix").rstrip("/")
        if _PATH.fullmatch(prefix):
            scope["state"][PREFIX] = prefix


def _last(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """What the nearest proxy says: the last of several values."""
    found = [value.decode("latin-1") for key, value in headers if key == name]
    return found[-1].rpartition(",")[2].strip() if found else ""
