"""…/base: files that a team has become a commit that holds a base model."""

from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from registry.domain.digest import json_digest
from registry.domain.records import FileEntry
from registry.http.access import Asked
from registry.http.paths import Text, name_of
from registry.http.publications import Publications
from registry.http.publishing import FileDocument, Published, Strict
from registry.http.schemas import DIGITS, Shape, documented, example
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission

routes = APIRouter(prefix="/v1/adapters", tags=["bases"])


class NewBase(Strict):
    """A whole model: its safetensors files, configuration, tokenizer. `base` is what it is called.

    An operator's name that is new is registered with it. Without one it must be registered, or is (by an operator)
    under the name that it is published at. `expected_head` and `dry_run` are as for versions.
    """

    model_config = example(files=[{"path": "model.safetensors", "sha256": DIGITS, "size": 1000}], base="acme/model") | {
        "strict": True
    }

    files: Annotated[list[FileDocument], Field(min_length=1)]
    base: Annotated[Text, Field(min_length=1)] | None = None
    message: str = ""
    expected_head: Text | None = None
    dry_run: bool = False


class Checking(Shape):
    """How many bytes of the weights have been hashed; ask again with the same key."""

    model_config = example(state="checking", done=1_073_741_824, of=16_060_522_496)

    state: str
    done: int
    of: int


@routes.post(
    "/{team}/{name}/base",
    operation_id="bases_publish",
    status_code=201,
    summary="Publish files as a base model",
    responses=documented(Published, 400, 403, 404, 409, 412, 413, 422, 507, status=201)
    | {
        200: {"model": Published, "description": "the content was there already"},
        202: {"model": Checking, "description": "its weights are being hashed: send the same request again"},
        204: {"description": "a dry run, in which nothing was refused"},
    },
)
async def publish(
    request: Request,
    registry: Asked,
    team: str,
    name: str,
    new: NewBase,
    idempotency_key: Annotated[str, Header(min_length=1)],
) -> Response:
    """Every tensor is read and hashed first, which takes a while for a large model: then this is answered before."""
    adapter = name_of(team, name)
    submission = Submission(
        adapter,
        tuple(FileEntry(file.path, file.sha256, file.size) for file in new.files),
        base=BaseClaim(new.base) if new.base else None,
        message=new.message,
        expected_head=new.expected_head,
        holds_base=True,
    )
    if new.dry_run:
        await run_in_threadpool(registry.check_submission, submission)
        return Response(status_code=204)
    publications: Publications = request.app.state.publications
    digest = json_digest(["publish base", str(adapter), new.model_dump(mode="json", exclude={"dry_run"})])
    document = await publications.publish(registry, submission, key=idempotency_key, request=digest)
    if isinstance(document, tuple):
        return JSONResponse({"state": "checking", "done": document[0], "of": document[1]}, 202)
    return JSONResponse(document, 201 if document["created"] else 200)
