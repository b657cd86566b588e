"""Where a server is: its URL checked, and the origin (scheme, host, port) that a token belongs to."""

from urllib.parse import SplitResult, urlsplit

from registry.domain.errors import InvalidSetting

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def server_url(name: str, url: str) -> str:
    """A server's URL without a slash at its end; `name` is the setting it comes from. Raises InvalidSetting."""
    parts = _split(url)
    if parts is None or parts.query or parts.fragment or parts.username is not None:
        raise InvalidSetting(name, _shown(url), "write https://HOST[:PORT][/path]")
    return url.rstrip("/")


def origin_of(url: str) -> str:
    """scheme://host:port, in one spelling; an empty string for what has none."""
    parts = _split(url)
    if parts is None:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def is_exposed(url: str) -> bool:
    """Whether what is sent there can be read on the way: it leaves this machine, and isn't encrypted."""
    parts = _split(url)
    return parts is not None and parts.scheme == "http" and parts.hostname not in _LOOPBACK


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and url.isascii() and url.isprintable() and " " not in url else None


def _shown(url: str) -> str:
    """A URL for a message: what may be a password is left out."""
    return f"…@{url.rpartition('@')[2]}" if "@" in url else url
