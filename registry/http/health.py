"""/healthz, /readyz, /metrics and /v1/ping: is the process alive, can it serve, how does it fare."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.responses import Response

from registry.domain.errors import AdaptersError
from registry.domain.rights import Caller
from registry.http.access import caller_of
from registry.http.gate_schemas import Alive, Nothing, Readiness
from registry.http.metrics import CONTENT_TYPE, Metrics
from registry.http.schemas import Responses, documented
from registry.service import Registry

routes = APIRouter(tags=["health"])
_LINE = 'adapters_http_requests_total{method="GET",route="/v1/me",status="200"} 3.0'
_FIGURES: Responses = {200: {"description": "lines of figures", "content": {"text/plain": {"example": _LINE}}}}


@routes.get(
    "/healthz",
    operation_id="healthz",
    summary="Whether the process is alive",
    responses={200: {"model": Alive}},
)
async def healthz() -> JSONResponse:
    return JSONResponse({"status": "alive"})


@routes.get(
    "/v1/ping",
    operation_id="ping",
    summary="An empty answer, for whoever has a token",
    responses=documented(Nothing),
)
async def ping(_caller: Annotated[Caller, Depends(caller_of)]) -> JSONResponse:
    return JSONResponse({})


@routes.get(
    "/metrics",
    operation_id="metrics",
    summary="Figures for Prometheus",
    response_class=PlainTextResponse,
    responses=_FIGURES,
)
def metrics(request: Request) -> Response:
    found: Metrics = request.app.state.metrics
    return Response(found.text(), media_type=CONTENT_TYPE)


@routes.get(
    "/readyz",
    operation_id="readyz",
    summary="Whether database, blobs and schema are there",
    responses={code: {"model": Readiness} for code in (200, 503)},
)
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
