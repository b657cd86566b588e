"""Publishing: files that a team has become a commit and, where the content is new, a version."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from registry.domain.digest import json_digest
from registry.domain.records import FileEntry
from registry.domain.reference import AdapterName
from registry.http.access import Asked
from registry.http.schemas import problems
from registry.http.uploads import Sha256
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FileDocument(_Strict):
    """A file of the version, which the team has: see uploads."""

    path: str
    sha256: Sha256
    size: Annotated[int, Field(ge=0, description="bytes")]


class BaseDocument(_Strict):
    """The base model: a label, or sha256: and its fingerprint. `hashed`: the caller computed it from the weights."""

    name: Annotated[str, Field(min_length=1)]
    hashed: bool = False


class NewVersion(_Strict):
    """A file tree as a whole. `expected_head` is the commit that the caller last saw on main; "" for none."""

    files: Annotated[list[FileDocument], Field(min_length=1)]
    base: str | BaseDocument | None = None
    message: str = ""
    metadata: dict[str, str] = {}
    aliases: list[str] = []
    expected_head: str | None = None


@routes.post(
    "/{team}/{name}/versions",
    operation_id="versions_publish",
    status_code=201,
    summary="Publish files as a version",
    responses={
        200: {"description": "the content was there already: its version is answered"},
        **problems(400, 403, 404, 409, 412),
    },
)
def publish(
    registry: Asked,
    team: str,
    name: str,
    new: NewVersion,
    response: Response,
    idempotency_key: Annotated[str | None, Header(min_length=1)] = None,
) -> dict[str, Any]:
    """Checked as `adapters push` checks a folder. With an Idempotency-Key the same request is answered as before."""
    adapter = AdapterName.parse(f"{team}/{name}")
    submission = _submission(adapter, new)
    if idempotency_key is None:
        document = registry.publish(submission).document
    else:
        request = json_digest(["publish", str(adapter), new.model_dump(mode="json")])
        document = registry.publish_once(submission, key=idempotency_key, request=request)
    response.status_code = 201 if document["created"] else 200
    return document


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
