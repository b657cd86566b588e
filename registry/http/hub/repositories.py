"""One repository: its facts, its files, and whether the caller may read or write it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from registry.domain.errors import NotAllowed
from registry.domain.records import Adapter, Commit, Version
from registry.domain.rights import Scope
from registry.http.hub.cards import Cards, card_data, library_of, tags
from registry.http.hub.entries import GitIds, sibling
from registry.http.hub.names import MAIN, repository
from registry.http.hub.queries import expanded, flag
from registry.http.hub.routing import Call, HubRoute


async def facts(call: Call) -> Response:
    """What a revision is, and its files; with `blobs`, their sizes and ids."""
    return JSONResponse(await run_in_threadpool(_facts, call))


def _facts(call: Call) -> dict[str, Any]:
    found = repository(call["team"], call["name"])
    shown = call.registry.snapshot(found.reference(call.segments.get("revision", MAIN)))
    card = cards_of(call).of(call.registry, shown.commit)
    document = described(found.named(shown.adapter.name), shown.adapter, card, version=shown.version)
    document |= {"private": not shown.public, **of_commit(call, shown.commit, blobs=flag(call, "blobs"))}
    return expanded(call, document)


def cards_of(call: Call) -> Cards:
    cards: Cards = call.request.app.state.cards
    return cards


def described(name: str, adapter: Adapter, card: Mapping[str, Any], *, version: Version | None) -> dict[str, Any]:
    """What is said of a repository in lists too."""
    data = card_data(card, version)
    document = {
        "id": name,
        "modelId": name,
        "author": adapter.name.team,
        "gated": False,
        "disabled": False,
        "createdAt": moment(adapter.created_at),
        "lastModified": moment(adapter.updated_at),
        "tags": tags(data, version),
        "library_name": library_of(version) or data.get("library_name"),
        "pipeline_tag": data.get("pipeline_tag"),
        "cardData": data,
    }
    if version is not None:
        document["config"] = {"peft": _peft(version)}
    return {key: value for key, value in document.items() if value is not None}


def of_commit(call: Call, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
    """What a commit adds to that."""
    git_ids: GitIds = call.request.app.state.git_ids
    ids = {file.path: git_ids.blob(call.registry, commit, file) if blobs else None for file in commit.files}
    return {
        "sha": commit.id,
        "lastModified": moment(commit.created_at),
        "siblings": [sibling(file, ids[file.path]) for file in commit.files],
        "usedStorage": sum(file.size for file in commit.files),
    }


def moment(at: datetime) -> str:
    """A time, as clients read it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _peft(version: Version) -> dict[str, Any]:
    summary = version.summary
    return {
        "base_model_name_or_path": version.base.name or summary.base_name,
        "task_type": summary.task_type,
        "peft_type": summary.peft_type,
        "r": summary.rank,
        "target_modules": list(summary.targets),
    }


async def may_read(call: Call) -> Response:
    """An empty answer to somebody who may."""
    await run_in_threadpool(call.registry.check_access, repository(call["team"], call["name"]).adapter)
    return JSONResponse({})


async def may_write(call: Call) -> Response:
    """The same for writing; nobody writes to a view."""
    found = repository(call["team"], call["name"])
    await run_in_threadpool(call.registry.check_access, found.adapter, Scope.WRITE)
    if found.view is not None:
        raise NotAllowed(call.registry.actor, Scope.WRITE.value, f"to {found.id}, which only shows {found.view}")
    return JSONResponse({})


_ID = "/api/models/{team}/{name}"
routes = (
    HubRoute("GET", _ID, facts),
    HubRoute("GET", f"{_ID}/revision/{{revision}}", facts),
    HubRoute("GET", f"{_ID}/auth-check", may_read),
    HubRoute("GET", f"{_ID}/auth-check/write", may_write),
)
