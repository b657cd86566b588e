"""Publishing: files that a team has become a commit and, where the content is new, a version."""

from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.digest import json_digest
from registry.domain.records import FileEntry
from registry.domain.reference import AdapterName
from registry.http.access import Asked
from registry.http.name_schemas import Move
from registry.http.paths import Sha256, Text, name_of
from registry.http.schemas import COMMIT, DIGITS, Shape, documented, example, example_of
from registry.http.version_schemas import Version
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])


class Strict(BaseModel):
    """A document that is asked with: these fields, of exactly these types."""

    model_config = ConfigDict(extra="forbid", strict=True)


class FileDocument(Strict):
    """A file of the version, which the team has: see uploads."""

    path: Text
    sha256: Sha256
    size: Annotated[int, Field(ge=0, description="bytes")]


class BaseDocument(Strict):
    """The base model: a label, or sha256: and its fingerprint. `hashed`: the caller computed it from the weights."""

    name: Annotated[Text, Field(min_length=1)]
    hashed: bool = False


class NewVersion(Strict):
    """A file tree as a whole. `expected_head` is the commit that the caller last saw on main; "" for none.

    `dry_run`: check all but the files, which needn't have been sent, and keep nothing.
    """

    model_config = example(
        files=[{"path": "adapter_model.safetensors", "sha256": DIGITS, "size": 1000}], aliases=["canary"]
    ) | {"strict": True}

    files: Annotated[list[FileDocument], Field(min_length=1)]
    base: Text | BaseDocument | None = None
    message: str = ""
    metadata: dict[str, str] = {}
    aliases: list[str] = []
    expected_head: Text | None = None
    dry_run: bool = False


class Published(Shape):
    """What came of it. `version` is null when the files hold no adapter yet.

    `base` is the fingerprint of the base model that the commit holds, where that is what the name stands for.
    """

    model_config = example(created=True, commit=COMMIT, version=example_of(Version), moves=[], left_out=[], base=None)

    created: bool
    commit: str
    version: Version | None
    moves: list[Move]
    left_out: list[str]
    base: str | None


@routes.post(
    "/{team}/{name}/versions",
    operation_id="versions_publish",
    status_code=201,
    summary="Publish files as a version",
    responses=documented(Published, 400, 403, 404, 409, 410, 412, 413, 507, status=201)
    | {
        200: {"model": Published, "description": "the content was there already, or holds no adapter yet"},
        204: {"description": "a dry run, in which nothing was refused"},
    },
)
def publish(
    registry: Asked,
    team: str,
    name: str,
    new: NewVersion,
    idempotency_key: Annotated[str | None, Header(min_length=1)] = None,
) -> Response:
    """Checked as `adapters push` checks a folder. With an Idempotency-Key the same request is answered as before."""
    adapter = name_of(team, name)
    submission = _submission(adapter, new)
    if new.dry_run:
        registry.check_submission(submission)
        return Response(status_code=204)
    if idempotency_key is None:
        document = registry.publish(submission).document
    else:
        request = json_digest(["publish", str(adapter), new.model_dump(mode="json", exclude={"dry_run"})])
        document = registry.publish_once(submission, key=idempotency_key, request=request)
    return JSONResponse(document, 201 if document["created"] else 200)


def _submission(adapter: AdapterName, new: NewVersion) -> Submission:
    base = BaseDocument(name=new.base) if isinstance(new.base, str) else new.base
    return Submission(
        adapter,
        tuple(FileEntry(file.path, file.sha256, file.size) for file in new.files),
        base=BaseClaim(base.name, base.hashed) if base else None,
        message=new.message,
        metadata=new.metadata,
        aliases=tuple(dict.fromkeys(new.aliases)),
        expected_head=new.expected_head,
    )
