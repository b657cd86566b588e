"""/v1/webhooks: whom to tell of a team's events, and what came of it."""

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from registry.domain.webhook_documents import deliveries_document, outcome_document, webhook_document
from registry.http import webhook_schemas as schemas
from registry.http.access import Asked
from registry.http.paths import Cursor, Limit, Text
from registry.http.schemas import documented
from registry.service.webhooks import OVERLAP, NewWebhook

routes = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])
Number = Annotated[int, Path(ge=1, lt=2**63)]
Event = Annotated[int | None, Field(ge=0, lt=2**63)]


class WebhookBody(BaseModel):
    """What a team wants to hear of, and where. After `cursor`, or from now on; without a filter, everything."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"team": "acme", "url": "https://hooks.acme.example/adapters", "kinds": ["alias.moved"]}]
        },
    )

    team: Text
    url: Annotated[str, Field(max_length=2000)]
    kinds: Annotated[list[Text], Field(max_length=100)] | None = None
    adapters: Annotated[list[Text], Field(max_length=100)] | None = None
    description: Text = ""
    cursor: Event = None


class ReplayBody(BaseModel):
    """One message by its id, or all after a cursor; neither: go on where it was given up."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"cursor": 41}]})

    cursor: Event = None
    delivery: Text | None = None


class RotationBody(BaseModel):
    """For how many hours the former secret signs along."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"overlap_hours": 24}]})

    overlap_hours: Annotated[FiniteFloat, Field(ge=0, le=720)] = OVERLAP / timedelta(hours=1)


@routes.post(
    "",
    operation_id="webhooks_create",
    status_code=201,
    summary="Tell a URL of a team's events",
    responses=documented(schemas.NewWebhook, 400, 403, 404, status=201),
)
def create(registry: Asked, body: WebhookBody) -> JSONResponse:
    """The secret is in this answer and nowhere else. What may be called is the operator's to say."""
    made = registry.create_webhook(
        body.team,
        body.url,
        kinds=body.kinds,
        adapters=body.adapters,
        description=body.description,
        cursor=body.cursor,
    )
    return JSONResponse(_with_secret(made), 201)


@routes.get(
    "",
    operation_id="webhooks_list",
    summary="The webhooks of a team, or of every team that one is an admin of",
    responses=documented(schemas.Webhooks, 403, 404),
)
def webhooks(
    registry: Asked, team: Annotated[Text | None, Query(description="only this team's")] = None
) -> JSONResponse:
    return JSONResponse({"webhooks": [webhook_document(one) for one in registry.webhooks(team)]})


@routes.get(
    "/{webhook}", operation_id="webhooks_show", summary="One webhook", responses=documented(schemas.Webhook, 403, 404)
)
def show(registry: Asked, webhook: Number) -> JSONResponse:
    return JSONResponse(webhook_document(registry.webhook(webhook)))


@routes.get(
    "/{webhook}/deliveries",
    operation_id="webhooks_deliveries",
    summary="What became of a webhook's messages, newest event first",
    responses=documented(schemas.Deliveries, 400, 403, 404),
)
def deliveries(registry: Asked, webhook: Number, limit: Limit = 100, cursor: Cursor = None) -> JSONResponse:
    return JSONResponse(deliveries_document(registry.deliveries(webhook, cursor=cursor, limit=limit)))


@routes.post(
    "/{webhook}/replay",
    operation_id="webhooks_replay",
    summary="Have messages sent again, under their ids",
    responses=documented(schemas.Webhook, 400, 403, 404),
)
def replay(registry: Asked, webhook: Number, body: ReplayBody) -> JSONResponse:
    """A webhook that was failing is active again."""
    return JSONResponse(webhook_document(registry.replay(webhook, cursor=body.cursor, delivery=body.delivery)))


@routes.post(
    "/{webhook}/secret",
    operation_id="webhooks_rotate",
    summary="Give a webhook a new secret",
    responses=documented(schemas.NewWebhook, 400, 403, 404),
)
def rotate(registry: Asked, webhook: Number, body: RotationBody) -> JSONResponse:
    """For a while messages are signed with both."""
    overlap = timedelta(hours=body.overlap_hours)
    return JSONResponse(_with_secret(registry.rotate_secret(webhook, overlap=overlap)))


@routes.post(
    "/{webhook}/test",
    operation_id="webhooks_test",
    summary="Send a webhook a message that tells of nothing",
    responses=documented(schemas.Outcome, 403, 404),
)
def test(registry: Asked, webhook: Number) -> JSONResponse:
    """Once and now; the answer says what came of it."""
    return JSONResponse(outcome_document(registry.test_webhook(webhook)))


@routes.delete(
    "/{webhook}",
    operation_id="webhooks_delete",
    status_code=204,
    summary="Forget a webhook",
    responses=documented(None, 403, 404, status=204),
)
def delete(registry: Asked, webhook: Number) -> None:
    registry.delete_webhook(webhook)


def _with_secret(made: NewWebhook) -> dict[str, object]:
    return webhook_document(made.webhook) | {"secret": made.secret}
