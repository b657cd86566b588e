"""A version's files at addresses that never change: bytes and ranges of them, or a redirect to the store."""

from typing import BinaryIO

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from registry.domain.errors import VersionNotFound
from registry.domain.records import Version
from registry.domain.reference import Reference, Selector
from registry.http.access import Asked
from registry.http.paths import Text, version_of
from registry.http.ranges import FOR_GOOD, TYPE, Content, check_conditions, facts, sent
from registry.http.schemas import Responses, documented
from registry.service import Registry

routes = APIRouter(prefix="/v1/adapters", tags=["adapters"])

URL_SECONDS = 900
_PINS = (Selector.VERSION, Selector.COMMIT, Selector.DIGEST)
_ADDRESS = "/{team}/{name}/versions/{version}/files/{path:path}"
_ANSWERS: Responses = {
    200: {"description": "the file", "content": {TYPE: {}}},
    206: {"description": "one range of the file", "content": {TYPE: {}}},
    302: {"description": "where the store has it, for a quarter of an hour"},
    304: {"description": "the caller has it"},
}


@routes.get(
    _ADDRESS,
    operation_id="versions_file",
    summary="A file of a version",
    response_class=Response,
    responses={**documented(None, 400, 404, 409, 410, 412, 416), **_ANSWERS},
)
@routes.head(
    _ADDRESS,
    operation_id="versions_file_facts",
    include_in_schema=False,
    responses={status: {"description": ""} for status in (200, 304, 400, 401, 404, 409, 410, 412, 422)},
)
def read(request: Request, registry: Asked, team: str, name: str, version: Text, path: str) -> Response:
    """`version` is a number, a commit or sha256:<hex>. Of several ranges none is answered, but the whole file."""
    found = registry.find_version(_pinned(team, name, version))
    content = _content(registry, found, path)
    if answer := check_conditions(request, content):
        return answer
    if request.method == "HEAD":
        return facts(content)
    if url := registry.file_url(found, path, seconds=URL_SECONDS):
        return RedirectResponse(url, 302, headers={"Cache-Control": "no-store"})
    return sent(request, content)


def _pinned(team: str, name: str, version: str) -> Reference:
    """An address is for good, so it names a version by what never moves. Raises VersionNotFound for an alias."""
    reference = version_of(team, name, version)
    if reference.selector not in _PINS:
        raise VersionNotFound(str(reference.adapter), version)
    return reference


def _content(registry: Registry, version: Version, path: str) -> Content:
    file = registry.file(version, path)

    def opened(start: int, length: int) -> BinaryIO:
        return registry.open_file(version, path, start=start, length=length).__enter__()

    return Content(path, file.size, file.sha256, opened, {"Cache-Control": FOR_GOOD})
