"""References and commits: aliases are branches, versions are tags, and main's history leads back from each."""

from html import escape
from typing import Any

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.records import Commit
from registry.http.hub.names import COMMIT, MAIN, Repository, repository
from registry.http.hub.origin import next_page
from registry.http.hub.queries import count, flag
from registry.http.hub.repositories import moment
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.trees import title_of

PAGE = 50


async def refs(call: Call) -> Response:
    """Branches and tags; there are no conversions and no pull requests."""
    return JSONResponse(await run_in_threadpool(_refs, call))


def _refs(call: Call) -> dict[str, Any]:
    found = repository(call["team"], call["name"])
    branches, tags = _of_view(call, found) if found.view else _of_adapter(call, found)
    document: dict[str, Any] = {
        "branches": [_ref("heads", *pair) for pair in branches.items()],
        "converts": [],
        "tags": [_ref("tags", *pair) for pair in tags.items()],
    }
    return document | ({"pullRequests": []} if flag(call, "include_prs") else {})


def _of_view(call: Call, found: Repository) -> tuple[dict[str, str], dict[str, str]]:
    return {MAIN: call.registry.commit_at(found.reference(MAIN)).id}, {}


def _of_adapter(call: Call, found: Repository) -> tuple[dict[str, str], dict[str, str]]:
    known = call.registry.references(found.adapter)
    main = {MAIN: known.main} if known.main else {}
    tags = {f"v{number}": commit for number, commit in known.versions.items()}
    return main | dict(known.aliases), tags | dict(known.tags)


def _ref(kind: str, name: str, commit: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": commit}


async def commits(call: Call) -> Response:
    """The commits that led to a revision's, newest first, a page at a time."""
    return await run_in_threadpool(_commits, call)


def _commits(call: Call) -> Response:
    found, query = repository(call["team"], call["name"]), call.request.query_params
    limit, cursor = count(call, "limit", most=PAGE), query.get("cursor")
    page = call.registry.commits_from(found.reference(call["revision"]), cursor=cursor, limit=limit)
    formatted = "formatted" in query.getlist("expand[]") + query.getlist("expand")
    headers = {}
    if page.cursor:
        # The next page goes on from the same commit, wherever the revision is then.
        start = call["revision"] if COMMIT.fullmatch(call["revision"]) else page.items[0].id
        path = f"/api/models/{call['team']}/{call['name']}/commits/{start}"
        asked = {"limit": str(limit), "cursor": page.cursor, "expand[]": "formatted" if formatted else None}
        headers = next_page(call.request, path, **asked)
    return JSONResponse([_document(commit, formatted=formatted) for commit in page.items], headers=headers)


def _document(commit: Commit, *, formatted: bool) -> dict[str, Any]:
    title, message = title_of(commit), commit.message.partition("\n")[2].strip()
    document: dict[str, Any] = {
        "id": commit.id,
        "title": title,
        "message": message,
        "date": moment(commit.created_at),
        "authors": [{"user": commit.author}],
    }
    return document | ({"formatted": {"title": escape(title), "message": escape(message)}} if formatted else {})


_ID = "/api/models/{team}/{name}"
routes = (
    HubRoute("GET", f"{_ID}/refs", refs),
    HubRoute("GET", f"{_ID}/commits/{{revision}}", commits),
)
