"""/v1/jobs: how far jobs are, what came of them, and cancelling them. /v1/verifications asks for one."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.concurrency import run_in_threadpool

from registry.domain.job_documents import job_document
from registry.domain.jobs import Job, JobState
from registry.domain.reference import Reference
from registry.http import job_schemas as schemas
from registry.http.access import Asked
from registry.http.paths import Cursor, Limit, Text
from registry.http.schemas import documented
from registry.http.watch import Tail
from registry.service import Registry

routes = APIRouter(prefix="/v1", tags=["jobs"])
LONGEST_WAIT = 30.0  # seconds
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="seconds to wait for its end")]
JobId = Annotated[str, Path(max_length=100, pattern="^[0-9a-z-]+$")]


class VerificationBody(BaseModel):
    """What is to be checked: one version, or everything (for operators); `deep` reads every byte."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"ref": "acme/support@v3", "deep": True}]}
    )

    ref: Text | None = None
    deep: bool = False


async def until_ended(request: Request, registry: Registry, job: Job, seconds: float) -> Job:
    """A job as it is when it has ended, or after so many seconds."""
    if not seconds:
        return job
    tail: Tail = request.app.state.tail
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not job.has_ended and not tail.closing and loop.time() < end:
        # The event of its end comes after this cursor, if the job hasn't ended by then.
        cursor = await run_in_threadpool(registry.newest_cursor)
        job = await run_in_threadpool(registry.job, job.id)
        if not job.has_ended:
            await tail.wait(cursor, end - loop.time())
    return job


def accepted(job: Job) -> JSONResponse:
    """The answer that a job is under way."""
    return JSONResponse({"job": job_document(job)}, 202, headers={"Location": f"/v1/jobs/{job.id}"})


@routes.get(
    "/jobs",
    operation_id="jobs_list",
    summary="Jobs of the teams that one may write to",
    responses=documented(schemas.Jobs, 400),
)
def jobs(
    registry: Asked,
    team: Annotated[Text | None, Query(description="only this team's")] = None,
    state: Annotated[JobState | None, Query(description="only those in this state")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> dict[str, Any]:
    page = registry.jobs(team=team, state=state, cursor=cursor, limit=limit)
    return {"jobs": [job_document(job) for job in page.items], "cursor": page.cursor}


@routes.get(
    "/jobs/{job_id}", operation_id="jobs_show", summary="How far a job is", responses=documented(schemas.Job, 404)
)
async def job(request: Request, registry: Asked, job_id: JobId, wait: Wait = 0.0) -> JSONResponse:
    found = await run_in_threadpool(registry.job, job_id)
    return JSONResponse(job_document(await until_ended(request, registry, found, wait)))


@routes.get(
    "/jobs/{job_id}/result",
    operation_id="jobs_result",
    summary="What came of a job that is done",
    responses=documented(schemas.Composition | schemas.Verification | schemas.Collection, 403, 404, 409),
)
def result(registry: Asked, job_id: JobId) -> dict[str, Any]:
    return registry.job_result(job_id)


@routes.delete(
    "/jobs/{job_id}",
    operation_id="jobs_cancel",
    summary="Cancel a job: one that runs stops at its next module",
    responses=documented(schemas.Job, 403, 404, 409),
)
def cancel(registry: Asked, job_id: JobId) -> dict[str, Any]:
    return job_document(registry.cancel_job(job_id))


@routes.post(
    "/verifications",
    operation_id="verifications_submit",
    status_code=202,
    summary="Check that stored bytes are there and unchanged",
    responses=documented(schemas.Accepted, 400, 403, 404, 429, status=202),
)
def verify(registry: Asked, body: VerificationBody) -> JSONResponse:
    return accepted(registry.submit_verification(Reference.parse(body.ref) if body.ref else None, deep=body.deep))
