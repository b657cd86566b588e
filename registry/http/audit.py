"""/v1/audit: what everybody did, and whether the log of it is whole. For operators."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from registry.domain.documents import event_document
from registry.http.access import Asked
from registry.http.access_schemas import Audit, AuditCheck
from registry.http.paths import Limit
from registry.http.schemas import documented

routes = APIRouter(prefix="/v1/audit", tags=["audit"])


@routes.get("", operation_id="audit_list", summary="The audit log, oldest first", responses=documented(Audit, 403))
def audit(
    registry: Asked,
    cursor: Annotated[int, Query(ge=0, lt=2**63, description="only what came after this line")] = 0,
    limit: Limit = 100,
) -> JSONResponse:
    found = registry.audit(cursor=cursor, limit=limit)
    following = found[-1].cursor if len(found) == limit else None
    return JSONResponse({"events": [event_document(event) for event in found], "cursor": following})


@routes.get(
    "/verify",
    operation_id="audit_verify",
    summary="Recompute the chain of the whole audit log",
    responses=documented(AuditCheck, 403),
)
def verify(registry: Asked) -> JSONResponse:
    check = registry.verify_audit()
    return JSONResponse(asdict(check))
