"""From a URL to a blob store: `memory:` or `file:///folder`.

A URL is a setting, so what is impossible in it is InvalidSetting. Credentials have no place in it, nor in the error.
"""

import re
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from registry.blobs.filesystem import FolderStore
from registry.blobs.memory import MemoryStore
from registry.blobs.store import BlobStore
from registry.domain.errors import InvalidSetting

SETTING = "ADAPTERS_BLOBS_URL"
USER_INFO = re.compile(r"//[^/?#]*@")


def open_store(url: str) -> BlobStore:
    """The store of a URL. Nothing is read, created or connected to before the store is used.

    Raises InvalidSetting.
    """
    parts = _split(url)
    if parts.scheme == "memory":
        return _memory(url, parts)
    if parts.scheme == "file":
        return FolderStore(_folder(url, parts))
    raise _refusal(url, "a store is memory: or file:///folder")


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


def _refusal(url: str, reason: str) -> InvalidSetting:
    return InvalidSetting(SETTING, USER_INFO.sub("//***@", url), reason)
