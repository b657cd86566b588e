"""/v1/bases: the base models that adapters are checked against. Names hold slashes, and are the rest of a path."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.documents import base_document, shown_base_document
from registry.domain.errors import WrongUsage
from registry.http.access import Asked
from registry.http.name_schemas import Base, Bases, Index, ShownBase
from registry.http.paths import Sha256, Text
from registry.http.schemas import documented, example, example_of

routes = APIRouter(prefix="/v1/bases", tags=["bases"])
MOST_TENSORS = 200_000
_SIZE = 2**63 - 1
# component, name, dtype, shape, size in bytes, sha256 of the bytes
TensorRow = tuple[
    Annotated[str, Field(max_length=100)],
    Annotated[str, Field(min_length=1, max_length=500)],
    Annotated[str, Field(min_length=1, max_length=20)],
    Annotated[list[Annotated[int, Field(ge=0, le=_SIZE)]], Field(max_length=8)],
    Annotated[int, Field(ge=0, le=_SIZE)],
    Sha256,
]


class IndexBody(BaseModel):
    """Names, shapes and digests of a base's tensors: what `adapters base add` computes, never its weights."""

    model_config = ConfigDict(extra="forbid")

    format: Annotated[str, Field(pattern="^(safetensors|gguf)$")]
    model_type: Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")] | None = None
    tensors: list[TensorRow] = Field(min_length=1, max_length=MOST_TENSORS)


class BaseBody(BaseModel):
    """A base and what it is called."""

    model_config = example(name="acme/model", index=example_of(Index))

    name: Text
    index: IndexBody


class LinkBody(BaseModel):
    """What a base is a quantised copy of, or what it replaces."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"quantised_of": "acme/model"}]})

    quantised_of: Text | None = None
    succeeds: Text | None = None


@routes.get("", operation_id="bases_list", summary="The registered base models", responses=documented(Bases))
def bases(registry: Asked) -> JSONResponse:
    return JSONResponse({"bases": [base_document(base) for base in registry.bases()]})


@routes.post(
    "",
    operation_id="bases_add",
    status_code=201,
    summary="Register a base model's tensor index under a name; for operators",
    responses=documented(Base, 400, 403, 409, status=201),
)
def add(registry: Asked, body: BaseBody) -> JSONResponse:
    tensors = tuple(
        BaseTensor(c, n, d, tuple(shape), size, sha256) for c, n, d, shape, size, sha256 in body.index.tensors
    )
    if len({(tensor.component, tensor.name) for tensor in tensors}) != len(tensors):
        raise WrongUsage("a tensor is named twice")
    index = BaseIndex(body.index.format, body.index.model_type, tensors)
    if max(index.parameters, index.size) > _SIZE:
        raise WrongUsage("no model is as large as these tensors together")
    added = registry.add_base(body.name, index)
    return JSONResponse(base_document(added), 201)


@routes.post(
    "/links",
    operation_id="bases_link",
    summary="Record how a base model is related to another one; for operators",
    responses=documented(Base, 400, 403, 404),
)
def link(registry: Asked, body: LinkBody, name: Annotated[Text, Query()]) -> JSONResponse:
    linked = registry.link_base(name, quantised_of=body.quantised_of, succeeds=body.succeeds)
    return JSONResponse(base_document(linked))


@routes.get(
    "/index",
    operation_id="bases_index",
    summary="The tensor index of a base model: what adapters are checked against",
    responses=documented(Index, 404),
)
def index(registry: Asked, name: Annotated[Text, Query()]) -> JSONResponse:
    return JSONResponse(registry.base_index(registry.base(name)).to_document())


@routes.get(
    "/{name:path}",
    operation_id="bases_show",
    summary="One base model, by a registered name or sha256:<hex>, and where it is published",
    responses=documented(ShownBase, 404),
)
def show(registry: Asked, name: Text) -> JSONResponse:
    base = registry.base(name)
    return JSONResponse(shown_base_document(base, registry.base_places(base)))
