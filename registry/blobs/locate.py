"""From a URL to a blob store: `memory:`, `file:///folder` or `s3://bucket/prefix?endpoint_url=…`.

A URL is a setting, so what is impossible in it is InvalidSetting. Credentials have no place in it, nor in the error.
"""

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from registry.blobs.filesystem import FolderStore
from registry.blobs.memory import MemoryStore
from registry.blobs.s3 import S3Location, S3Store
from registry.blobs.store import BlobStore
from registry.domain.errors import InvalidSetting

SETTING = "ADAPTERS_BLOBS_URL"
OPTIONS = ("endpoint_url", "public_endpoint_url", "region")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
REGION = re.compile(r"[a-z0-9-]{1,63}")
SECRET = re.compile(r"//.*@|\?.*", re.DOTALL)  # what a user may have put there: a password, or a key as an option


def open_store(url: str) -> BlobStore:
    """The store of a URL. Nothing is read, created or connected to before the store is used.

    Raises InvalidSetting.
    """
    parts = _split(url)
    if parts.scheme == "memory":
        return _memory(url, parts)
    if parts.scheme == "file":
        return FolderStore(_folder(url, parts))
    if parts.scheme == "s3":
        return S3Store(_s3(url, parts))
    raise _refusal(url, "a store is memory:, file:///folder or s3://bucket/prefix")


def _split(url: str) -> SplitResult:
    if not url.isprintable() or url != url.strip():
        raise _refusal(url, "it has blanks around it or characters that can't be printed")
    try:
        return urlsplit(url)
    except ValueError:
        raise _refusal(url, "it is not a URL") from None


def _memory(url: str, parts: SplitResult) -> MemoryStore:
    if parts.netloc or parts.path or parts.query or parts.fragment:
        raise _refusal(url, "a store in memory is written memory:")
    return MemoryStore()


def _folder(url: str, parts: SplitResult) -> Path:
    if parts.netloc not in ("", "localhost"):
        raise _refusal(url, "a folder on another machine can't be opened; write file:///folder with three slashes")
    if parts.query or parts.fragment:
        raise _refusal(url, "a folder takes no options; write '?' as %3F and '#' as %23")
    path = unquote(parts.path)
    if not path.startswith("/") or not path.strip("/"):
        raise _refusal(url, "it names no folder; write file:///folder with an absolute path")
    if "\0" in path:
        raise _refusal(url, "a path has no NUL")
    return Path(path)


def _s3(url: str, parts: SplitResult) -> S3Location:
    if not BUCKET.fullmatch(parts.netloc) or ".." in parts.netloc:
        raise _refusal(
            url, "a bucket's name is 3 to 63 of a-z, 0-9, '.' and '-'; credentials and ports don't belong there"
        )
    prefix = parts.path.strip("/")
    if prefix and not PREFIX.fullmatch(prefix):
        raise _refusal(url, "a prefix is names of A-Z, a-z, 0-9, '.', '_' and '-' with slashes between them")
    if parts.fragment:
        raise _refusal(url, "an s3 URL has no '#'")
    options = _options(url, parts.query)
    for name in ("endpoint_url", "public_endpoint_url"):
        if name in options:
            _check_endpoint(url, name, options[name])
    if "region" in options and not REGION.fullmatch(options["region"]):
        raise _refusal(url, "a region is a-z, 0-9 and '-'")
    return S3Location(parts.netloc, prefix, **options)


def _options(url: str, query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise _refusal(url, "its options are not name=value&…") from None
    if unknown := {name for name, _ in pairs} - set(OPTIONS):
        raise _refusal(url, f"it has no option {min(unknown)!r}; there are {', '.join(OPTIONS)}")
    if len(dict(pairs)) < len(pairs):
        raise _refusal(url, "an option is there twice")
    return dict(pairs)


def _check_endpoint(url: str, name: str, endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        right = False
    if not right:
        raise _refusal(url, f"{name} is not http://host or https://host, with a port or without")
    if "@" in parts.netloc:
        raise _refusal(url, f"{name} holds credentials; give them the way boto3 knows, as AWS_ACCESS_KEY_ID")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _refusal(url, f"{name} goes no further than the host and the port")


def _refusal(url: str, reason: str) -> InvalidSetting:
    return InvalidSetting(SETTING, SECRET.sub(_mask, url), reason)


def _mask(secret: re.Match[str]) -> str:
    return "//…@" if secret[0].startswith("//") else "?…"
