"""/v1/tokens and /v1/me: tokens, and who one is by the token that one came with."""

from datetime import timedelta

from fastapi import APIRouter, Path
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.documents import caller_document, token_document
from registry.domain.rights import Scope
from registry.http.access import Asked
from registry.http.access_schemas import Caller, NewToken, Token, Tokens
from registry.http.paths import Text
from registry.http.schemas import documented

routes = APIRouter(prefix="/v1", tags=["tokens"])
_YEARS = 100 * 365  # days


class TokenBody(BaseModel):
    """A new token, as wide as its maker's own unless it says less. `principal` and `operator` take an operator."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "ci", "scopes": ["read", "write"], "days": 90}]}
    )

    name: Text
    principal: Text | None = None
    scopes: list[Scope] | None = None
    teams: list[Text] | None = Field(default=None, max_length=1000)
    days: float | None = Field(default=None, gt=0, le=_YEARS)
    operator: bool = False


@routes.get("/me", operation_id="me", summary="Who one is, and what one may do", responses=documented(Caller))
def me(registry: Asked) -> JSONResponse:
    return JSONResponse(caller_document(registry.caller))


@routes.get(
    "/tokens",
    operation_id="tokens_list",
    summary="One's own tokens; for operators everybody's",
    responses=documented(Tokens),
)
def tokens(registry: Asked) -> JSONResponse:
    return JSONResponse({"tokens": [token_document(token) for token in registry.tokens()]})


@routes.post(
    "/tokens",
    operation_id="tokens_create",
    status_code=201,
    summary="Make a token; its secret is shown this once",
    responses=documented(NewToken, 400, 403, 404, status=201),
)
def create(registry: Asked, body: TokenBody) -> JSONResponse:
    made = registry.create_token(
        body.name,
        principal=body.principal,
        scopes=body.scopes,
        teams=body.teams,
        lifetime=timedelta(days=body.days) if body.days else None,
        operator=body.operator,
    )
    document = {**token_document(made.token), "token": made.secret}
    return JSONResponse(document, 201, headers={"Cache-Control": "no-store"})


@routes.delete(
    "/tokens/{token_id}",
    operation_id="tokens_revoke",
    summary="Revoke a token: nobody gets in with it a second later",
    responses=documented(Token, 404),
)
def revoke(registry: Asked, token_id: int = Path(ge=1, lt=2**31)) -> JSONResponse:
    return JSONResponse(token_document(registry.revoke_token(token_id)))
