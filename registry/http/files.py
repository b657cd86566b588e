"""A version's files at addresses that never change: bytes and ranges of them, or a redirect to the store.

Source: RFC 9110, sections 13 and 14 (conditional and range requests).
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from registry.domain.errors import VersionNotFound
from registry.domain.records import FileEntry
from registry.domain.reference import Reference, Selector
from registry.http.access import Asked
from registry.http.paths import Text, version_of
from registry.http.schemas import Responses, documented

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])

URL_SECONDS = 900
READ_AT_ONCE = 256 << 10  # bytes
_RANGE = re.compile(r"bytes=(?:([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18}))", re.ASCII | re.IGNORECASE)
_TYPE = "application/octet-stream"
_PINS = (Selector.VERSION, Selector.COMMIT, Selector.DIGEST)
_ADDRESS = "/{team}/{name}/versions/{version}/files/{path:path}"


class Stream(StreamingResponse):
    """Bytes of a file as they are read. The file is closed when the answer ends, however it ends."""

    def __init__(self, file: BinaryIO, status: int, headers: dict[str, str]) -> None:
        self._file = file
        super().__init__(_chunks(file), status, headers=headers, media_type=_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


_ANSWERS: Responses = {
    200: {"description": "the file", "content": {_TYPE: {}}},
    206: {"description": "one range of the file", "content": {_TYPE: {}}},
    302: {"description": "where the store has it, for a quarter of an hour"},
    304: {"description": "the caller has it"},
}


@routes.get(
    _ADDRESS,
    operation_id="versions_file",
    summary="A file of a version",
    response_class=Response,
    responses={**documented(None, 400, 404, 409, 410, 412, 416), **_ANSWERS},
)
@routes.head(
    _ADDRESS,
    operation_id="versions_file_facts",
    include_in_schema=False,
    responses={status: {"description": ""} for status in (200, 304, 400, 401, 404, 409, 410, 412, 422)},
)
def read(request: Request, registry: Asked, team: str, name: str, version: Text, path: str) -> Response:
    """`version` is a number, a commit or sha256:<hex>. Of several ranges none is answered, but the whole file."""
    found = registry.find_version(_pinned(team, name, version))
    file = registry.file(found, path)
    headers = _headers(file)
    if not _names(request.headers.get("if-match", "*"), file, strong=True):
        raise HTTPException(412, "the file is not the one that If-Match names")
    if _names(request.headers.get("if-none-match", ""), file):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(file.size)}, media_type=_TYPE)
    if url := registry.file_url(found, path, seconds=URL_SECONDS):
        return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})
    span = _wanted(request, file)
    if span is None:
        nothing = {"Content-Range": f"bytes */{file.size}", "Accept-Ranges": "bytes"}
        raise HTTPException(416, "the file has no such bytes", nothing)
    stream = registry.open_file(found, path, start=span.start, length=span.length).__enter__()
    headers["Content-Length"] = str(span.length)
    if span.partial:
        headers["Content-Range"] = f"bytes {span.start}-{span.start + span.length - 1}/{file.size}"
    return Stream(stream, 206 if span.partial else 200, headers)


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    length: int
    partial: bool


def _pinned(team: str, name: str, version: str) -> Reference:
    """An address is for good, so it names a version by what never moves. Raises VersionNotFound for an alias."""
    reference = version_of(team, name, version)
    if reference.selector not in _PINS:
        raise VersionNotFound(str(reference.adapter), version)
    return reference


def _headers(file: FileEntry) -> dict[str, str]:
    name = file.path.rpartition("/")[2]
    return {
        "ETag": f'"{file.sha256}"',
        "Cache-Control": "private, max-age=31536000, immutable",
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
    }


def _names(tags: str, file: FileEntry, *, strong: bool = False) -> bool:
    """Whether an If-None-Match, or an If-Match (then `strong`), has the file's tag."""
    found = [tag.strip() if strong else tag.strip().removeprefix("W/") for tag in tags.split(",")]
    return "*" in found or f'"{file.sha256}"' in found


def _wanted(request: Request, file: FileEntry) -> _Span | None:
    """The bytes that are asked for; None if there are no such bytes. What is no single range stands for the file."""
    whole = _Span(0, file.size, partial=False)
    tag = request.headers.get("if-range")
    if tag is not None and tag != f'"{file.sha256}"':
        return whole
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None:
        return whole
    if match[3] is not None:
        if file.size == 0 and int(match[3]):
            return whole  # the last bytes of nothing are nothing, and there is no Content-Range for them
        start, end = max(0, file.size - int(match[3])), file.size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1 if match[2] else file.size, file.size)
        if match[2] and int(match[2]) < start:
            return whole  # not a range by the grammar, so it is as if it weren't there
    return _Span(start, end - start, partial=True) if start < end else None


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await run_in_threadpool(file.read, READ_AT_ONCE):
        yield chunk
