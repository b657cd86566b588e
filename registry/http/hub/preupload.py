"""What a client should do with each file before it commits: send it in the commit, send it apart, or leave it out.

Nothing is kept of it. What is there already is named, so that files that haven't changed are not sent.
"""

from typing import Annotated, Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.digest import read_chunks
from registry.domain.ignoring import Ignore
from registry.domain.paths import travels
from registry.domain.records import Commit, FileEntry
from registry.http.hub import bodies
from registry.http.hub.entries import GitIds, is_large
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.targets import target
from registry.http.paths import Words
from registry.service.committing import check_addition

_RULES = ".gitignore"
_MOST_RULES = 64 << 10  # bytes


class Candidate(BaseModel):
    """A file that somebody has; its sample (the first 512 bytes) tells nothing that its name doesn't."""

    path: Words
    size: Annotated[int, Field(ge=0)]


class Candidates(BaseModel):
    """`gitIgnore` is the .gitignore that comes with them; without one, that of main counts."""

    files: Annotated[list[Candidate], Field(max_length=10_000)]
    gitIgnore: Annotated[str | None, Field(max_length=_MOST_RULES)] = None


async def preupload(call: Call) -> Response:
    """A line a file: how it is sent, whether it is left out, and what is there under its name."""
    asked = await bodies.read(call, Candidates)
    return JSONResponse({"files": await run_in_threadpool(_preupload, call, asked)})


def _preupload(call: Call, asked: Candidates) -> list[dict[str, Any]]:
    head = target(call, call["revision"]).shown
    ignore = Ignore.parse(_rules(call, head) if asked.gitIgnore is None else asked.gitIgnore)
    there = {file.path: file for file in head.files} if head else {}
    lines = [_line(call, file, ignore, head, there.get(file.path)) for file in asked.files]
    # Xet's clients show nobody why their bytes are refused: it must be said here.
    new = sum(file.size for file, line in zip(asked.files, lines, strict=True) if _is_new(line))
    call.registry.check_room(call["team"], new)
    return lines


def _is_new(line: dict[str, Any]) -> bool:
    return not line["shouldIgnore"] and "oid" not in line


def _line(call: Call, file: Candidate, ignore: Ignore, head: Commit | None, there: FileEntry | None) -> dict[str, Any]:
    line: dict[str, Any] = {
        "path": file.path,
        "uploadMode": "lfs" if is_large(file.path, file.size) else "regular",
        "shouldIgnore": not travels(file.path) or ignore.covers(file.path),
    }
    if not line["shouldIgnore"]:
        check_addition(file.path)  # before its bytes are sent for nothing
        if head and there and there.size == file.size:
            git_ids: GitIds = call.request.app.state.git_ids
            line["oid"] = git_ids.tag(call.registry, head, there)
    return line


def _rules(call: Call, head: Commit | None) -> str:
    if head is None or all(file.path != _RULES for file in head.files):
        return ""
    with call.registry.open_file(head, _RULES, length=_MOST_RULES) as stream:
        return b"".join(read_chunks(stream)).decode(errors="replace")


routes = (HubRoute("POST", "/api/models/{team}/{name}/preupload/{revision}", preupload),)
