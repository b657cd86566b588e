"""Gates and approvals over HTTP."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from registry.domain.documents import approval_document, gate_document
from registry.domain.gates import Requirement
from registry.domain.reference import AdapterName, Reference, Selector
from registry.http import gate_schemas as schemas
from registry.http.access import Asked
from registry.http.schemas import documented

routes = APIRouter(prefix="/v1/adapters/{team}/{name}", tags=["gates"])
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class RequirementBody(BaseModel):
    """A metric with a bound."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"metric": "f1", "bound": 0.85}]})

    metric: str = Field(min_length=1, max_length=200)
    comparison: Literal[">=", "<="] = ">="
    bound: FiniteFloat
    dataset: str | None = None
    dataset_sha256: Sha256 | None = None


class GateBody(BaseModel):
    """What a version must show before an alias may point at it."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"requirements": [{"metric": "f1", "bound": 0.85}]}]}
    )

    requirements: list[RequirementBody] = Field(default=[], max_length=100)
    approvals: int = Field(default=0, ge=0, le=100)


class ApprovalBody(BaseModel):
    """Which version is approved."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 7, "comment": "read 50"}]})

    version: int = Field(ge=1)
    comment: str = ""


@routes.get(
    "/gates", operation_id="gates_list", summary="An adapter's gates", responses=documented(schemas.Gates, 400, 404)
)
def gates(registry: Asked, team: str, name: str) -> dict[str, Any]:
    return {"gates": [gate_document(gate) for gate in registry.gates(_name(team, name))]}


@routes.put(
    "/aliases/{alias}/gate",
    operation_id="gates_set",
    summary="Put a gate before an alias",
    responses=documented(schemas.Gate, 400, 403, 404),
)
def set_gate(registry: Asked, team: str, name: str, alias: str, body: GateBody) -> dict[str, Any]:
    lines = [Requirement(**line.model_dump()) for line in body.requirements]
    return gate_document(registry.set_gate(_name(team, name), alias, lines, approvals=body.approvals))


@routes.delete(
    "/aliases/{alias}/gate",
    operation_id="gates_remove",
    status_code=204,
    summary="Take a gate away",
    responses=documented(None, 400, 403, 404, status=204),
)
def remove_gate(registry: Asked, team: str, name: str, alias: str) -> None:
    registry.remove_gate(_name(team, name), alias)


@routes.post(
    "/aliases/{alias}/approvals",
    operation_id="gates_approve",
    status_code=201,
    summary="Approve a version",
    responses=documented(schemas.Approval, 400, 403, 404, 409, 410, status=201),
)
def approve(registry: Asked, team: str, name: str, alias: str, body: ApprovalBody) -> dict[str, Any]:
    reference = Reference(_name(team, name), Selector.VERSION, str(body.version))
    return approval_document(registry.approve(reference, alias, comment=body.comment))


def _name(team: str, name: str) -> AdapterName:
    return AdapterName.parse(f"{team}/{name}")
