"""Large files over Git LFS: a client asks where to send which.

    basic       one PUT of a whole file
    multipart   a PUT for each part, in any order: `chunk_size` is what the client cuts by, the keys "1", "2", … are
                where the parts go, and `href` hears when all have been sent

An S3 store takes parts directly. This server's own addresses, and what happens there: `registry.http.hub.sending`.

Source: the Git LFS specification (docs/api/batch.md), and huggingface_hub's `lfs.py` for "multipart".
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from registry.blobs.parts import part_size_for
from registry.domain.errors import Refused
from registry.domain.records import Upload
from registry.http.hub import bodies
from registry.http.hub.names import MAIN
from registry.http.hub.routing import Call, HubRoute
from registry.http.hub.sending import LFS, LargeFile, completion_address, parts_address, verification_address
from registry.http.hub.targets import target
from registry.http.paths import Words
from registry.service.arrivals import Arrival

MOST_PARTS = 20_000  # addresses in one answer
_KIND = "application/vnd.git-lfs+json"


class _Ref(BaseModel):
    name: Words


class Batch(BaseModel):
    """What a client wants to send, how it can, and to which branch."""

    operation: Literal["upload", "download"]
    transfers: list[str] = ["basic"]
    objects: Annotated[list[LargeFile], Field(max_length=1_000)]
    hash_algo: str = "sha256"
    ref: _Ref | None = None


async def batch(call: Call) -> Response:
    """Where each file goes; nowhere, if the team has it."""
    asked = await bodies.read(call, Batch)
    if asked.operation != "upload":
        raise HTTPException(501, "large files are downloaded by their path here: GET …/resolve/{revision}/{path}")
    if asked.hash_algo != "sha256":
        raise HTTPException(409, "files are named by their sha256 here")
    if sum(-(-file.size // part_size_for(max(1, file.size))) for file in asked.objects) > MOST_PARTS:
        raise HTTPException(413, f"the files have more than {MOST_PARTS:,} parts: ask for fewer at once")
    return JSONResponse(await run_in_threadpool(_batch, call, asked), media_type=_KIND)


def _batch(call: Call, asked: Batch) -> dict[str, Any]:
    revision = asked.ref.name if asked.ref else MAIN
    team = target(call, revision).adapter.name.team
    lines = _Lines(call, team, in_parts="multipart" in asked.transfers)
    objects = [lines.of(file) for file in asked.objects]
    return {"transfer": "multipart" if any(map(_is_cut, objects)) else "basic", "objects": objects}


def _is_cut(line: dict[str, Any]) -> bool:
    return "header" in line.get("actions", {}).get("upload", {})


@dataclass(frozen=True, slots=True)
class _Lines:
    """What a client is told of each file."""

    call: Call
    team: str
    in_parts: bool

    def of(self, file: LargeFile) -> dict[str, Any]:
        """What is to be done with a file, or why it is refused."""
        line: dict[str, Any] = {"oid": file.oid, "size": file.size}
        try:
            arrival = self.call.registry.begin_upload(self.team, file.oid, file.size)
        except Refused as error:
            return line | {"error": {"code": 422, "message": f"{error} {error.hint}".strip()}}
        if arrival.upload is None or arrival.done:
            return line
        cut = self.in_parts and len(arrival.parts) > 1
        upload = self._in_parts(arrival.upload, arrival) if cut else self._whole(arrival.upload, arrival)
        verify = {"href": verification_address(self.call, arrival.upload)}
        return line | {"authenticated": True, "actions": {"upload": upload, "verify": verify}}

    def _whole(self, upload: Upload, arrival: Arrival) -> dict[str, Any]:
        direct = arrival.parts[0].url if len(arrival.parts) == 1 else None
        return {"href": direct or parts_address(self.call, upload, 1, len(arrival.parts))}

    def _in_parts(self, upload: Upload, arrival: Arrival) -> dict[str, Any]:
        """A client sends every part, those that are there too."""
        numbers = ((part.number, part.url) for part in arrival.parts)
        urls = {str(number): url or parts_address(self.call, upload, number, number) for number, url in numbers}
        header = {"chunk_size": str(upload.part_size), **urls}
        return {"href": completion_address(self.call, upload), "header": header}


routes = (HubRoute("POST", f"{LFS}/batch", batch),)
