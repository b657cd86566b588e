"""Files and folders of a revision: a page of them, or those that somebody names.

A page leads to the next one by the commit, so that a revision which moves meanwhile makes no mixture of two trees.
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.errors import FileNotInVersion, WrongUsage
from registry.domain.records import Commit
from registry.http.hub.entries import GitIds, file_entry, folder_entry, folders
from registry.http.hub.names import repository
from registry.http.hub.origin import next_page
from registry.http.hub.queries import count, flag, truth
from registry.http.hub.repositories import moment
from registry.http.hub.routing import Call, HubRoute

PAGE = 1000
EXPANDED_PAGE = 50  # entries that are looked up one by one
_FORM = "application/x-www-form-urlencoded"


async def tree(call: Call) -> Response:
    """What is in a folder; with `recursive` below it too, with `expand` since which commit."""
    return await run_in_threadpool(_tree, call)


def _tree(call: Call) -> Response:
    commit, folder, expand = _commit(call), call["path"].strip("/"), flag(call, "expand")
    recursive = flag(call, "recursive")
    paths = _inside(commit, folder, recursive=recursive)
    after = call.request.query_params.get("cursor", "")
    left = [path for path in paths if path > after]
    limit = count(call, "limit", most=EXPANDED_PAGE if expand else PAGE)
    page = left[:limit]
    headers = {}
    if len(left) > limit:
        path = f"/api/models/{call['team']}/{call['name']}/tree/{commit.id}/{folder}".rstrip("/")
        asked = {"recursive": str(recursive), "expand": str(expand), "limit": str(limit), "cursor": page[-1]}
        headers = next_page(call.request, path, **asked)
    return JSONResponse(_entries(call, commit, page, expand=expand), headers=headers)


def _inside(commit: Commit, folder: str, *, recursive: bool) -> list[str]:
    """The paths in a folder, sorted. Raises FileNotInVersion."""
    every = sorted([*folders(commit), *(file.path for file in commit.files)])
    start = f"{folder}/" if folder else ""
    found = [path for path in every if path.startswith(start)]
    if folder and not found:
        raise FileNotInVersion(commit.reference, folder)
    return found if recursive else [path for path in found if "/" not in path[len(start) :]]


async def paths_info(call: Call) -> Response:
    """The files and folders that the body names, without those that aren't there."""
    paths, expand = _wanted(await call.request.body(), call.request.headers.get("content-type", ""))
    return await run_in_threadpool(_paths_info, call, paths, expand)


def _paths_info(call: Call, paths: Sequence[str], expand: bool) -> Response:
    commit = _commit(call)
    there = {*folders(commit), *(file.path for file in commit.files)}
    wanted = [path for path in dict.fromkeys(path.strip("/") for path in paths) if path in there]
    return JSONResponse(_entries(call, commit, wanted, expand=expand))


def _wanted(body: bytes, kind: str) -> tuple[list[str], bool]:
    """The paths that a form or a JSON document names, and whether more is wanted of them. Raises WrongUsage."""
    try:
        if kind.partition(";")[0].strip().lower() == _FORM:
            form = parse_qs(body.decode(), max_num_fields=PAGE + 2)
            return form.get("paths", []), truth("expand", form.get("expand", [""])[-1])
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise WrongUsage(f"the body is a form or a JSON document with at most {PAGE} paths") from None
    paths = document.get("paths", []) if isinstance(document, dict) else None
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or len(paths) > PAGE or not all(isinstance(path, str) for path in paths):
        raise WrongUsage(f'the body is {{"paths": […], "expand": …}}, with at most {PAGE} paths')
    return paths, document.get("expand") is True


def _commit(call: Call) -> Commit:
    return call.registry.commit_at(repository(call["team"], call["name"]).reference(call["revision"]))


def _entries(call: Call, commit: Commit, paths: Sequence[str], *, expand: bool) -> list[dict[str, Any]]:
    git_ids: GitIds = call.request.app.state.git_ids
    files = {file.path: file for file in commit.files}
    entries = [
        file_entry(files[path], git_ids.blob(call.registry, commit, files[path]))
        if path in files
        else folder_entry(commit, path)
        for path in paths
    ]
    if not expand:
        return entries
    inside = {path: [file for file in files if file == path or file.startswith(f"{path}/")] for path in paths}
    changes = call.registry.last_changes(commit, set().union(*inside.values()))
    newest = [max((changes[file] for file in inside[path]), key=lambda change: change.created_at) for path in paths]
    return [entry | {"lastCommit": _since(change)} for entry, change in zip(entries, newest, strict=True)]


def _since(change: Commit) -> dict[str, Any]:
    return {"id": change.id, "title": title_of(change), "date": moment(change.created_at)}


def title_of(commit: Commit) -> str:
    """The first line of a commit's message."""
    return commit.message.partition("\n")[0]


_ID = "/api/models/{team}/{name}"
routes = (
    HubRoute("GET", f"{_ID}/tree/{{revision}}/{{path:path}}", tree),
    HubRoute("POST", f"{_ID}/paths-info/{{revision}}", paths_info),
)
