"""Where a client may write: to the main of an adapter. Anything else is refused with what to do instead."""

from starlette.exceptions import HTTPException

from registry.domain.reference import AdapterName
from registry.http.hub.names import COMMIT, MAIN, repository
from registry.http.hub.queries import flag
from registry.http.hub.routing import Call
from registry.service.committing import Writable

_MAINS = (MAIN, f"refs/heads/{MAIN}")


def target(call: Call, revision: str) -> Writable:
    """What a commit to that revision would change. Blocks.

    Raises AdapterNotFound, NotAllowed, VersionNotFound; HTTPException for what is there and isn't written to.
    """
    if flag(call, "create_pr"):
        raise HTTPException(501, "pull requests are not offered here: push to main, and move an alias when it is ready")
    name = adapter_of(call)
    writable = call.registry.writable(name)
    if revision in _MAINS:
        return writable
    call.registry.commit_at(repository(call["team"], call["name"]).reference(revision))
    if COMMIT.fullmatch(revision):
        raise HTTPException(403, f"a commit never changes: push to {MAIN}")
    instead = f"push to {MAIN}, then `adapters promote {name} {revision}`"
    raise HTTPException(403, f"{revision} is an alias, a version or a tag, which is not pushed to: {instead}")


def adapter_of(call: Call) -> AdapterName:
    """The adapter that a path names. Raises InvalidReference, and HTTPException 403 for a view of one."""
    found = repository(call["team"], call["name"])
    if found.view:
        call.registry.commit_at(found.view)  # whoever may not read it learns nothing
        raise HTTPException(403, f"{found.id} only shows {found.view}: push to {found.adapter}, {MAIN}")
    return found.adapter
