"""Frozen settings, read once from the environment. No other room looks at `os.environ`.

ADAPTERS_HOME           folder of the embedded registry (default ~/.adapters)
ADAPTERS_DATABASE_URL   sqlite:///… or postgresql+psycopg://… (default: a file in ADAPTERS_HOME)
ADAPTERS_DATABASE_URL_FILE  a file with that URL, for those who keep passwords out of the environment
ADAPTERS_REGISTRY       URL of a server, for commands to work against in place of an embedded registry
ADAPTERS_TOKEN          what to show there, in place of a token that `adapters login` keeps in ADAPTERS_HOME
ADAPTERS_SECRET         32 characters or more that the servers of a database share: secrets of webhooks are made of it
ADAPTERS_WEBHOOK_TARGETS   what webhooks may call: hosts, networks, `public` (the default), separated by commas
ADAPTERS_BLOBS_URL      file:///… or s3://bucket/prefix?endpoint_url=…&region=… (default: a folder in ADAPTERS_HOME)
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from registry.domain.errors import InvalidSetting

_URL_FILE = "ADAPTERS_DATABASE_URL_FILE"
_SHORTEST_SECRET = 32  # characters


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the registry keeps things, and the server that stands in for it."""

    home: Path
    database_url: str
    blobs_url: str
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    webhook_targets: str = "public"
    secret: bytes | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings. Raises InvalidSetting for a value that can't be meant."""
        home = Path(environment.get("ADAPTERS_HOME") or "~/.adapters").expanduser().absolute()
        database_url = _database_url(environment) or f"sqlite:///{home / 'registry.db'}"
        if not database_url.startswith(("sqlite:///", "postgresql+psycopg://")):
            scheme = database_url.partition("://")[0]  # the rest may hold a password
            raise InvalidSetting(
                "ADAPTERS_DATABASE_URL", f"{scheme}://…", "write sqlite:///FILE or postgresql+psycopg://HOST/DATABASE"
            )
        blobs_url = environment.get("ADAPTERS_BLOBS_URL") or (home / "blobs").as_uri()
        server, token = environment.get("ADAPTERS_REGISTRY") or None, environment.get("ADAPTERS_TOKEN") or None
        targets = environment.get("ADAPTERS_WEBHOOK_TARGETS") or "public"
        return cls(home, database_url, blobs_url, server, token, targets, _secret(environment))

    @property
    def embedded(self) -> bool:
        """Whether the database is a file of one machine, which migrates by itself."""
        return self.database_url.startswith("sqlite:")


def _secret(environment: Mapping[str, str]) -> bytes | None:
    secret = environment.get("ADAPTERS_SECRET")
    if secret and len(secret) < _SHORTEST_SECRET:
        raise InvalidSetting("ADAPTERS_SECRET", "…", f"it has fewer than {_SHORTEST_SECRET} characters")
    return secret.encode() if secret else None


def _database_url(environment: Mapping[str, str]) -> str | None:
    """The URL that is named, or that stands in the file that is named. Raises InvalidSetting."""
    url, file = environment.get("ADAPTERS_DATABASE_URL"), environment.get(_URL_FILE)
    if url or not file:
        return url
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(
            _URL_FILE, file, f"it can't be read: {getattr(error, 'strerror', None) or error}"
        ) from None
