"""…/versions: what is known of a version, its status, what was measured of it, and how two of them differ."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from registry.domain.documents import (
    evaluation_document,
    lineage_document,
    module_document,
    shown_document,
    version_document,
)
from registry.domain.records import Status
from registry.http.access import Asked
from registry.http.paths import Cursor, Limit, Sha256, Text, Words, name_of, other_of, version_of
from registry.http.schemas import documented
from registry.http.version_schemas import (
    Difference,
    Evaluation,
    Evaluations,
    Lineage,
    Modules,
    ShownVersion,
    Version,
    VersionPage,
    WholeModules,
)

routes = APIRouter(prefix="/v1/adapters/{team}/{name}", tags=["versions"])
_One = "a number, or what may follow an @: v3, production, a commit, sha256:<hex>"


class StatusBody(BaseModel):
    """What becomes of a version, and why."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"status": "yanked", "reason": "worse on live traffic"}]}
    )

    status: Literal["active", "yanked", "revoked"]
    reason: Words = Field(min_length=1)
    force: bool = Field(default=False, description="even if an alias points to it")


class EvaluationBody(BaseModel):
    """What was measured of a version."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"dataset": "held-out", "metrics": {"f1": 0.91}}]}
    )

    metrics: dict[Text, FiniteFloat] = Field(min_length=1, max_length=1000)
    dataset: Text | None = None
    dataset_sha256: Sha256 | None = None


@routes.get(
    "/versions",
    operation_id="versions_list",
    summary="An adapter's versions, newest first",
    responses=documented(VersionPage, 400, 404),
)
def versions(registry: Asked, team: str, name: str, limit: Limit = 100, cursor: Cursor = None) -> JSONResponse:
    adapter = registry.adapter(name_of(team, name)).name
    page = registry.versions(adapter, cursor=cursor, limit=limit)
    return JSONResponse({"versions": [version_document(v) for v in page.items], "cursor": page.cursor})


@routes.get(
    "/versions/{version}",
    operation_id="versions_show",
    summary="Everything that is known of a version, whatever its status",
    responses=documented(ShownVersion, 400, 404),
)
def version(registry: Asked, team: str, name: str, version: str) -> JSONResponse:
    found = registry.peek(version_of(team, name, version))
    document = shown_document(
        found,
        aliases=[alias for alias in registry.aliases(found.adapter) if alias.version == found.number],
        evaluations=registry.evaluations(found),
        lineage=registry.lineage(found),
    )
    return JSONResponse(document)


@routes.patch(
    "/versions/{version}",
    operation_id="versions_set_status",
    summary="Yank, revoke or release a version",
    responses=documented(Version, 400, 403, 404, 409, 410),
)
def set_status(registry: Asked, team: str, name: str, version: str, body: StatusBody) -> JSONResponse:
    reference = version_of(team, name, version)
    changed = registry.set_status(reference, Status(body.status), reason=body.reason, force=body.force)
    return JSONResponse(version_document(changed, files=True))


@routes.get(
    "/versions/{version}/lineage",
    operation_id="versions_lineage",
    summary="What a version was made of, and what was made of it",
    responses=documented(Lineage, 400, 404),
)
def lineage(registry: Asked, team: str, name: str, version: str) -> JSONResponse:
    return JSONResponse(lineage_document(registry.lineage(registry.peek(version_of(team, name, version)))))


@routes.get(
    "/versions/{version}/modules",
    operation_id="versions_modules",
    summary="The adapted modules of a version",
    responses=documented(Modules | WholeModules, 400, 404),
)
def modules(
    registry: Asked,
    team: str,
    name: str,
    version: str,
    tensors: Annotated[bool, Query(description="with the names of the tensors that each is made of")] = False,
) -> JSONResponse:
    found = registry.modules(registry.peek(version_of(team, name, version)))
    shown = [module.to_document() if tensors else module_document(module) for module in found]
    return JSONResponse({"modules": shown})


@routes.get(
    "/versions/{version}/evaluations",
    operation_id="evaluations_list",
    summary="What was measured of a version, newest first",
    responses=documented(Evaluations, 400, 404),
)
def evaluations(registry: Asked, team: str, name: str, version: str) -> JSONResponse:
    found = registry.evaluations(registry.peek(version_of(team, name, version)))
    return JSONResponse({"evaluations": [evaluation_document(evaluation) for evaluation in found]})


@routes.post(
    "/versions/{version}/evaluations",
    operation_id="evaluations_add",
    status_code=201,
    summary="Record what was measured of a version",
    responses=documented(Evaluation, 400, 403, 404, 409, 410, status=201),
)
def evaluate(registry: Asked, team: str, name: str, version: str, body: EvaluationBody) -> JSONResponse:
    done = registry.evaluate(
        version_of(team, name, version), body.metrics, dataset=body.dataset, dataset_sha256=body.dataset_sha256
    )
    return JSONResponse(evaluation_document(done), 201)


@routes.get(
    "/diff",
    operation_id="versions_diff",
    summary="What differs between two versions",
    responses=documented(Difference, 400, 404, 409, 410),
)
def diff(
    registry: Asked,
    team: str,
    name: str,
    left: Annotated[Text, Query(alias="from", description=_One)],
    right: Annotated[Text, Query(alias="to", description=f"{_One}; or team/name@… of another adapter")],
) -> JSONResponse:
    found = (registry.find_version(other_of(team, name, text)) for text in (left, right))
    return JSONResponse(registry.diff(*found))
