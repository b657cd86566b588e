"""Frozen settings of a server, read once from the environment and the command line.

ADAPTERS_PUBLIC_URL        how clients reach the server, where that differs from the address it listens on
ADAPTERS_SECRET            what signs addresses that take no token: the same, secret text for all servers of a database
ADAPTERS_TRUSTED_PROXIES   addresses (or networks) whose X-Forwarded-* headers count, separated by commas
PROMETHEUS_MULTIPROC_DIR   where several workers add up their figures; prometheus-client reads it too
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT
                           a collector to send traces to; OpenTelemetry's library reads these and all other OTEL_*
OTEL_SDK_DISABLED          true: no traces, whatever else is set
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Self
from urllib.parse import urlsplit

from registry.domain.errors import InvalidSetting

LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
_SHORTEST_SECRET = 32  # characters


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where a server listens and who may talk to it. `hosts` are the names that requests may call it by.

    `secret` signs what it hands out; without one that is set, it is good for this object and its copies alone.
    """

    host: str
    port: int
    public_url: str
    hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...] = ()
    metrics_folder: str | None = None
    traces: bool = False
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, host: str, port: int, tls: bool = False) -> Self:
        """Read the settings. Raises InvalidSetting for a value that can't be meant."""
        given = environment.get("ADAPTERS_PUBLIC_URL")
        own_url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
        public_url = _checked(given) if given else own_url
        name = urlsplit(public_url).hostname or host
        proxies = _networks("ADAPTERS_TRUSTED_PROXIES", environment.get("ADAPTERS_TRUSTED_PROXIES", ""))
        hosts = tuple(dict.fromkeys((*LOCAL_HOSTS, host, name)))
        figures = environment.get("PROMETHEUS_MULTIPROC_DIR")
        kept = {"secret": _secret(given)} if (given := environment.get("ADAPTERS_SECRET")) else {}
        return cls(host, port, public_url, hosts, proxies, figures, _wants_traces(environment), **kept)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL_HOSTS


def _networks(name: str, text: str) -> tuple[str, ...]:
    """Addresses and networks. What is neither would be trusted never, and nobody would know why."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in found:
        try:
            ip_network(part)
        except ValueError:
            raise InvalidSetting(name, part, "write addresses or networks, as 10.0.0.7,10.1.0.0/16") from None
    return found


def _secret(text: str) -> bytes:
    if len(text) < _SHORTEST_SECRET:
        raise InvalidSetting("ADAPTERS_SECRET", "…", f"it has fewer than {_SHORTEST_SECRET} characters")
    return text.encode()


def _wants_traces(environment: Mapping[str, str]) -> bool:
    named = any(environment.get(f"OTEL_EXPORTER_OTLP_{kind}ENDPOINT") for kind in ("", "TRACES_"))
    return named and environment.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidSetting("ADAPTERS_PUBLIC_URL", url, "write https://HOST[:PORT][/path]")
    return url.rstrip("/")
