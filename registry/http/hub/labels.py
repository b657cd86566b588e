"""Branches and tags that clients make and delete.

A branch is an alias, and is moved by nobody but the registry's own API. `main` and the tags of versions (`v3`) are
there by themselves. Any other tag is a note on a commit.
"""

import re

from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.domain.errors import AliasNotFound, InvalidReference, NameTaken, StaleSequence, VersionNotFound
from registry.domain.reference import AdapterName, Reference, Selector, check_alias, check_tag
from registry.domain.rights import Scope
from registry.http.hub import bodies
from registry.http.hub.names import MAIN, repository
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.targets import adapter_of
from registry.http.paths import Words

_REASON = "by a client of the Hugging Face Hub's protocol"
_VERSION = re.compile("v[0-9]+", re.ASCII)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewBranch(_Strict):
    """Where a branch begins; main if nothing is said."""

    startingPoint: Words | None = None


class NewTag(_Strict):
    tag: Words
    message: Words | None = None


async def create_branch(call: Call) -> Response:
    """Point a new alias at a version."""
    wanted = await bodies.read(call, NewBranch)
    return JSONResponse(await run_in_threadpool(_create_branch, call, wanted))


def _create_branch(call: Call, wanted: NewBranch) -> dict[str, str]:
    name, branch = adapter_of(call), _name(call["branch"], "branch")
    call.registry.check_access(name, Scope.PROMOTE)
    if branch == MAIN:
        raise HTTPException(409, f"the branch {MAIN} exists already")
    try:
        check_alias(branch)
    except InvalidReference as error:
        raise HTTPException(400, f"the branch {branch!r} would be an alias: {error.reason}") from error
    version = _version(call, name, wanted.startingPoint or MAIN)
    try:
        call.registry.promote(version, branch, expected=0, reason=_REASON)
    except StaleSequence:
        raise HTTPException(409, f"the branch {branch} exists already") from None
    return {"ref": f"refs/heads/{branch}"}


def _version(call: Call, name: AdapterName, revision: str) -> Reference:
    """The version whose content a revision has. Raises VersionNotFound for a commit without an adapter."""
    commit = call.registry.commit_at(repository(call["team"], call["name"]).reference(revision))
    if commit.version is None:
        raise VersionNotFound(str(name), f"adapter in {revision[:80]}: a branch begins at a version")
    return Reference(name, Selector.VERSION, str(commit.version))


async def delete_branch(call: Call) -> Response:
    """Delete an alias; its history stays."""
    return JSONResponse(await run_in_threadpool(_delete_branch, call))


def _delete_branch(call: Call) -> dict[str, str]:
    name, branch = adapter_of(call), _name(call["branch"], "branch")
    call.registry.check_access(name, Scope.PROMOTE)
    if branch == MAIN:
        raise HTTPException(403, f"{MAIN} can't be deleted: delete the repository")
    try:
        check_alias(branch)
    except InvalidReference:
        raise AliasNotFound(str(name), branch[:80]) from None
    call.registry.delete_alias(name, branch, reason=_REASON)
    return {"ref": f"refs/heads/{branch}"}


async def create_tag(call: Call) -> Response:
    """Give a commit a name."""
    wanted = await bodies.read(call, NewTag)
    return JSONResponse(await run_in_threadpool(_create_tag, call, wanted))


def _create_tag(call: Call, wanted: NewTag) -> dict[str, str]:
    name, tag = adapter_of(call), _name(wanted.tag, "tag")
    call.registry.check_access(name, Scope.WRITE)
    if _VERSION.fullmatch(tag.lower()):
        _refuse_version(call, name, tag.lower())
    try:
        check_tag(tag)
    except InvalidReference as error:
        raise HTTPException(400, f"{error.reason}") from error
    commit = call.registry.commit_at(repository(call["team"], call["name"]).reference(call["revision"]))
    try:
        call.registry.create_tag(name, tag, commit.id, message=wanted.message or "")
    except NameTaken as error:
        raise HTTPException(409, f"the tag {tag} exists already: {error.reason}") from error
    return {"ref": f"refs/tags/{tag}"}


async def delete_tag(call: Call) -> Response:
    """Forget a tag."""
    return JSONResponse(await run_in_threadpool(_delete_tag, call))


def _delete_tag(call: Call) -> dict[str, str]:
    name, tag = adapter_of(call), _name(call["revision"], "tag")
    if _VERSION.fullmatch(tag.lower()):
        raise HTTPException(403, f"{tag} is a version: it is yanked or revoked by its owners, and never deleted")
    return {"ref": f"refs/tags/{call.registry.delete_tag(name, tag).name}"}


def _refuse_version(call: Call, name: AdapterName, tag: str) -> None:
    """Refuse a tag that only the registry makes: it is there, or will be."""
    try:
        call.registry.peek(Reference.parse(f"{name}@{tag}"))
    except (VersionNotFound, InvalidReference):
        raise HTTPException(403, f"{tag} is for a version: the next push of a new adapter gets the next one") from None
    raise HTTPException(409, f"the tag {tag} exists already: it is a version")


def _name(text: str, kind: str) -> str:
    """A branch's or a tag's name, which may be written in full."""
    return text.removeprefix("refs/heads/" if kind == "branch" else "refs/tags/")


_ID = "/api/models/{team}/{name}"
routes = (
    HubRoute("POST", f"{_ID}/branch/{{branch}}", create_branch),
    HubRoute("DELETE", f"{_ID}/branch/{{branch}}", delete_branch),
    HubRoute("POST", f"{_ID}/tag/{{revision}}", create_tag),
    HubRoute("DELETE", f"{_ID}/tag/{{revision}}", delete_tag),
)
