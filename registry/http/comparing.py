"""Versions of one adapter, or of several, side by side."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from registry.http.access import Asked
from registry.http.evaluation_schemas import Compared
from registry.http.paths import Text, other_of
from registry.http.schemas import documented
from registry.service.comparison import MOST

routes = APIRouter(prefix="/v1/adapters/{team}/{name}", tags=["versions"])
_ONE = "a number, or what may follow an @: v3, production, sha256:<hex>; or team/name@… of another adapter"


@routes.get(
    "/compare",
    operation_id="versions_compare",
    summary="Versions side by side: what was measured, how sure the differences are, what the gates say",
    responses=documented(Compared, 400, 404, 409, 410),
)
def compare(
    registry: Asked,
    team: str,
    name: str,
    ref: Annotated[list[Text], Query(min_length=2, max_length=MOST, description=_ONE)],
    dataset: Annotated[Text | None, Query(description="only on this data set: its name, or its sha256")] = None,
    metric: Annotated[Text | None, Query(description="only this metric")] = None,
) -> JSONResponse:
    references = [other_of(team, name, text) for text in ref]
    return JSONResponse(registry.compare(references, dataset=dataset, metric=metric))
