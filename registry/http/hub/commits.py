"""A client's commit: its body is read to the end, then it happens as a whole, or not at all."""

from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from registry.domain.errors import BlobNotFound, FileNotInVersion
from registry.domain.reference import AdapterName
from registry.http.hub.commit_lines import CommitLines
from registry.http.hub.origin import origin_of
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.targets import target
from registry.http.receiving import receive
from registry.service.committing import Changes


async def commit(call: Call) -> Response:
    """What main has after it."""
    name = (await run_in_threadpool(target, call, call["revision"])).adapter.name
    lines = CommitLines()
    try:
        await receive(call.request.stream(), lines.write)
        made = await run_in_threadpool(_commit, call, name, lines)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is left to be answered
    finally:
        lines.close()
    url = f"{origin_of(call.request)}/{name}/commit/{made}"
    return JSONResponse({"success": True, "commitOid": made, "commitUrl": url, "hookOutput": ""})


def _commit(call: Call, name: AdapterName, lines: CommitLines) -> str:
    header = lines.finish()
    changes = Changes(name, tuple(lines.changes), header.message, header.parentCommit)
    call.registry.check_changes(changes)
    call.registry.keep(name.team, lines.contents())
    try:
        return call.registry.commit(changes)
    except BlobNotFound as error:
        paths = ", ".join(change.path for change in changes.additions if change.sha256 == error.sha256)
        raise HTTPException(400, f"{paths}: its bytes (sha256 {error.sha256}) were not sent; push it again") from error
    except FileNotInVersion as error:
        # Clients look for these words, to explain how files and folders are told apart.
        text = f"A file with this name doesn't exist: {error.path}"
        raise HTTPException(404, text, headers={"X-Error-Code": "EntryNotFound"}) from error


routes = (HubRoute("POST", "/api/models/{team}/{name}/commit/{revision}", commit),)
