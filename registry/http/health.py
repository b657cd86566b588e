"""/healthz and /readyz: is the process alive, and can it serve."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from registry.domain.errors import AdaptersError
from registry.service import Registry

routes = APIRouter(tags=["health"])


@routes.get("/healthz", summary="Whether the process is alive")
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@routes.get("/readyz", summary="Whether database, blobs and schema are there", responses={503: {}})
def readyz(request: Request) -> JSONResponse:
    registry: Registry = request.app.state.registry
    checks = {name: _outcome(check) for name, check in registry.readiness().items()}
    ready = all(outcome == "ready" for outcome in checks.values())
    return JSONResponse({"ready": ready, "checks": checks}, 200 if ready else 503)


def _outcome(check: Any) -> str:
    try:
        check()
    except AdaptersError as error:
        return error.message
    return "ready"
