"""Files by revision: what HEAD tells of one, and its bytes, from here or from the store.

A client asks with HEAD for the commit, the tag and the size, then gets the bytes; it finds all three on the first
answer, be that a redirect or not. It follows a redirect with HEAD, and loses them, if that leads back to the registry's
own host: bytes of a store there are passed on.
"""

from typing import BinaryIO
from urllib.parse import urlsplit

from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.errors import FileNotInVersion
from registry.domain.records import Commit, FileEntry
from registry.http.hub.entries import GitIds, is_large
from registry.http.hub.names import COMMIT, repository
from registry.http.hub.origin import origin_of
from registry.http.hub.refusals import refusal
from registry.http.hub.routing import Call, HubRoute
from registry.http.ranges import FOR_GOOD, Content, check_conditions, facts, sent

URL_SECONDS = 900
_REPO_COMMIT = "X-Repo-Commit"


async def resolve(call: Call) -> Response:
    """A file of a revision. 404 with the commit, so that clients remember that it has no such file."""
    return await run_in_threadpool(_resolve, call)


def _resolve(call: Call) -> Response:
    revision = call["revision"]
    commit = call.registry.commit_at(repository(call["team"], call["name"]).reference(revision))
    try:
        file = call.registry.file(commit, call["path"])
    except FileNotInVersion as error:
        absent = refusal(error)
        absent.headers[_REPO_COMMIT] = commit.id
        return absent
    content = _content(call, commit, file, pinned=COMMIT.fullmatch(revision) is not None)
    if answer := check_conditions(call.request, content):
        return answer
    if url := _elsewhere(call, commit, file):
        return RedirectResponse(url, 302, headers=content.known | {"Cache-Control": "no-store"})
    return facts(content) if call.request.method == "HEAD" else sent(call.request, content)


def _content(call: Call, commit: Commit, file: FileEntry, *, pinned: bool) -> Content:
    git_ids: GitIds = call.request.app.state.git_ids
    tag = git_ids.tag(call.registry, commit, file)

    def opened(start: int, length: int) -> BinaryIO:
        return call.registry.open_file(commit, file.path, start=start, length=length).__enter__()

    headers = {
        _REPO_COMMIT: commit.id,
        "X-Linked-ETag": f'"{tag}"',
        "X-Linked-Size": str(file.size),
        "Cache-Control": FOR_GOOD if pinned else "private, no-cache",
        "Vary": "Authorization",
    }
    return Content(file.path, file.size, tag, opened, headers)


def _elsewhere(call: Call, commit: Commit, file: FileEntry) -> str | None:
    """Where the store has a large file, if that is another host than the one that the client dialled.

    Clients of 2.x go by origins, those of 1.x by hosts: a bucket at another port won't do.
    """
    if not is_large(file.path, file.size):
        return None
    url = call.registry.file_url(commit, file.path, seconds=URL_SECONDS)
    return url if url and urlsplit(url).hostname != urlsplit(origin_of(call.request)).hostname else None


routes = (HubRoute(("GET", "HEAD"), "/{team}/{name}/resolve/{revision}/{path:path}", resolve),)
