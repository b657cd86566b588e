"""A file as an answer: the whole of it or one range, if the caller's conditions hold.

Source: RFC 9110, sections 13 and 14 (conditional and range requests).
"""

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

READ_AT_ONCE = 256 << 10  # bytes
TYPE = "application/octet-stream"
FOR_GOOD = "private, max-age=31536000, immutable"
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Content:
    """A file that can be answered with. `headers` are on every answer that is no error."""

    path: str
    size: int
    tag: str  # without quotes
    open: Callable[[int, int], BinaryIO]  # start, length
    headers: Mapping[str, str]

    @property
    def known(self) -> dict[str, str]:
        """What is said of it, with its bytes or without."""
        name = quote(self.path.rpartition("/")[2], safe="")
        return {
            "ETag": f'"{self.tag}"',
            "Accept-Ranges": "bytes",
            "X-Content-Type-Options": "nosniff",
            "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
            **self.headers,
        }


class Stream(StreamingResponse):
    """Bytes of a file as they are read. The file is closed when the answer ends, however it ends."""

    def __init__(self, file: BinaryIO, status: int, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(_chunks(file), status, headers=headers, media_type=TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def check_conditions(request: Request, content: Content) -> Response | None:
    """The answer to somebody who has the file. Raises HTTPException 412 for one who wants another."""
    if not _names(request.headers.get("if-match", "*"), content, strong=True):
        raise HTTPException(412, "the file is not the one that If-Match names")
    if _names(request.headers.get("if-none-match", ""), content):
        return Response(status_code=304, headers=content.known)
    return None


def facts(content: Content) -> Response:
    """What HEAD is answered with."""
    return Response(headers=content.known | {"Content-Length": str(content.size)}, media_type=TYPE)


def sent(request: Request, content: Content) -> Response:
    """The bytes. Of several ranges none is answered, but the whole file. Raises HTTPException 416."""
    span = _wanted(request, content)
    if span is None:
        nothing = {"Content-Range": f"bytes */{content.size}", "Accept-Ranges": "bytes"}
        raise HTTPException(416, "the file has no such bytes", nothing)
    headers = content.known | {"Content-Length": str(span.length)}
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{content.size}"
    return Stream(content.open(span.start, span.length), 206 if span.partial else 200, headers)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    length: int
    partial: bool


def _names(tags: str, content: Content, *, strong: bool = False) -> bool:
    """Whether an If-None-Match, or an If-Match (then `strong`), has the file's tag."""
    found = [tag.strip() if strong else tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "*" in found or f'"{content.tag}"' in found


def _wanted(request: Request, content: Content) -> _Span | None:
    """The bytes that are asked for; None if there are no such bytes. What is no single range stands for the file."""
    size = content.size
    whole = _Span(0, size, partial=False)
    tag = request.headers.get("if-range")
    if tag is not None and tag != f'"{content.tag}"':
        return whole
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None:
        return whole
    if match[3] is not None:
        if size == 0 and int(match[3]):
            return whole  # the last bytes of nothing are nothing, and there is no Content-Range for them
        start, end = max(0, size - int(match[3])), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else size, size)
        if match[2] and int(match[2]) < start:
            return whole  # not a range by the grammar, so it is as if it weren't there
    return _Span(start, end - start, partial=True) if start < end else None


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await run_in_threadpool(file.read, READ_AT_ONCE):
        yield chunk
