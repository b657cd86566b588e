"""The body of a commit: lines of JSON, each an operation, parsed as they come.

    {"key": "header", "value": {"summary", "description"?, "parentCommit"?}}       first, and once
    {"key": "file", "value": {"path", "content", "encoding"}}                      a regular file, with its bytes
    {"key": "lfsFile", "value": {"path", "algo", "oid", "size"?}}                  a large one, which was sent before
    {"key": "deletedFile" | "deletedFolder", "value": {"path"}}

One line is held at a time, and the bytes of regular files go to a temporary file: what a body holds comes to the store
when the body has come whole.
"""

import binascii
import hashlib
import tempfile
from base64 import b64decode
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StringConstraints
from starlette.exceptions import HTTPException

from registry.http.hub.bodies import parsed
from registry.http.hub.entries import MOST_REGULAR
from registry.http.paths import Sha256, Words
from registry.service.committing import Content, Delete, Put

MOST_OF_A_LINE = MOST_REGULAR * 4 // 3 + (64 << 10)  # bytes: a regular file in base64, and what is around it
MOST_LINES = 10_000
_IN_MEMORY = 1 << 20  # bytes


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Header(_Strict):
    """What is said of a commit, and the commit that it must be made to."""

    summary: Words
    description: Words | None = None
    parentCommit: Annotated[str, StringConstraints(pattern="^[0-9a-f]{40}$")] | None = None

    @property
    def message(self) -> str:
        """Both texts as one."""
        return f"{self.summary}\n\n{self.description}" if self.description else self.summary


class _File(_Strict):
    path: Words
    content: str
    encoding: Literal["base64", "utf-8"] = "utf-8"


class _LargeFile(_Strict):
    path: Words
    algo: Literal["sha256"]
    oid: Sha256
    size: Annotated[int, Field(ge=0)] | None = None


class _Path(_Strict):
    path: Words


class _HeaderLine(_Strict):
    key: Literal["header"]
    value: Header


class _FileLine(_Strict):
    key: Literal["file"]
    value: _File


class _LargeFileLine(_Strict):
    key: Literal["lfsFile"]
    value: _LargeFile


class _DeletionLine(_Strict):
    key: Literal["deletedFile", "deletedFolder"]
    value: _Path


_Any = Annotated[_HeaderLine | _FileLine | _LargeFileLine | _DeletionLine, Field(discriminator="key")]


class _Line(RootModel[_Any]):
    """One operation."""


class CommitLines:
    """What has come of a commit's body: its header, its changes, and the contents of its regular files."""

    def __init__(self) -> None:
        self.changes: list[Put | Delete] = []
        self._header: Header | None = None
        self._lines = 0
        self._held = bytearray()
        self._places: dict[str, tuple[int, int]] = {}  # sha256 -> where it begins in the spool, and its bytes
        self._spool = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `close`

    def write(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises HTTPException for what is no line of a commit."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._take(bytes(self._held) + line)
            self._held.clear()
        self._held += rest
        if len(self._held) > MOST_OF_A_LINE:
            raise _too_long()

    def finish(self) -> Header:
        """Say that these were all; returns the header. Raises HTTPException where none came."""
        self._take(bytes(self._held))
        self._held.clear()
        if self._header is None:
            raise HTTPException(400, "a commit begins with a header")
        return self._header

    def contents(self) -> list[Content]:
        """The different contents of the regular files; they can be read until this is closed."""
        return [Content(sha256, size, partial(self._read, sha256)) for sha256, (_, size) in self._places.items()]

    def close(self) -> None:
        """Let go of the bytes."""
        self._spool.close()

    def _take(self, text: bytes) -> None:
        if not text.strip():
            return
        self._lines += 1
        if len(text) > MOST_OF_A_LINE:
            raise _too_long()
        if self._lines > MOST_LINES:
            raise HTTPException(413, f"a commit has at most {MOST_LINES:,} lines: make several")
        line = parsed(text, _Line, what=f"line {self._lines} of the commit").root
        if isinstance(line, _HeaderLine) is not (self._lines == 1):
            raise HTTPException(400, "a commit begins with a header, and has no other")
        match line:
            case _HeaderLine():
                self._header = line.value
            case _FileLine():
                self._put(line.value)
            case _LargeFileLine():
                self.changes.append(Put(line.value.path, line.value.oid, line.value.size))
            case _DeletionLine():
                self.changes.append(Delete(line.value.path, folder=line.key == "deletedFolder"))

    def _put(self, file: _File) -> None:
        data = _bytes(file)
        if len(data) > MOST_REGULAR:
            raise _too_long()
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._places:
            self._places[sha256] = self._spool.seek(0, 2), len(data)
            self._spool.write(data)
        self.changes.append(Put(file.path, sha256, len(data)))

    def _read(self, sha256: str) -> Iterator[bytes]:
        start, size = self._places[sha256]
        self._spool.seek(start)
        yield self._spool.read(size)


def _bytes(file: _File) -> bytes:
    if file.encoding == "utf-8":
        return file.content.encode()
    try:
        return b64decode(file.content, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(400, f"{file.path[:200]}: the content is not base64") from None


def _too_long() -> HTTPException:
    return HTTPException(413, f"a regular file has at most {MOST_REGULAR:,} bytes: send it as a large one")
