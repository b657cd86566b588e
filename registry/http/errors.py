"""Errors as answers: one table from the error tree to status codes, and one shape for all of them."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.domain.error_documents import error_document
from registry.domain.errors import (
    Absent,
    AdaptersError,
    BaseConflict,
    Conflict,
    Damaged,
    DatabaseFailure,
    DigestMismatch,
    Failure,
    Gone,
    NotActive,
    NotAllowed,
    NotAuthenticated,
    NotEnoughSpace,
    QuotaExceeded,
    RankTooHigh,
    Refused,
    StaleCommit,
    StaleSequence,
    StorageFailure,
    TooManyJobs,
    WrongUsage,
)

# The first class that an error is an instance of decides.
STATUS: Mapping[type[AdaptersError], int] = {
    NotAuthenticated: 401,
    NotAllowed: 403,
    Absent: 404,
    Gone: 410,
    StaleSequence: 412,
    StaleCommit: 412,
    Conflict: 409,
    BaseConflict: 409,
    RankTooHigh: 409,
    NotActive: 409,
    QuotaExceeded: 507,
    TooManyJobs: 429,
    DigestMismatch: 422,
    Refused: 422,
    DatabaseFailure: 503,
    StorageFailure: 503,
    NotEnoughSpace: 507,
    Damaged: 500,
    Failure: 500,
}
_USAGE = 400  # what is left in the tree is wrong usage
_PHRASES = {
    404: "not_found",
    405: "method_not_allowed",
    412: "precondition_failed",
    413: "body_too_large",
    428: "precondition_required",
    429: "too_many_attempts",
}
_log = logging.getLogger("adapters.http")


def status_of(error: AdaptersError) -> int:
    """The status code that an error is answered with."""
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), _USAGE)


def answer_of(error: AdaptersError | HTTPException) -> JSONResponse:
    """An error as an answer."""
    if isinstance(error, HTTPException):
        answer = _plain(error.status_code, _PHRASES.get(error.status_code, "http_error"), str(error.detail))
        answer.headers.update(error.headers or {})
        return answer
    status = status_of(error)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return JSONResponse(error_document(error), status, headers=headers)


def install(app: FastAPI) -> None:
    """Let every error of an application be answered in the one shape."""
    app.add_exception_handler(AdaptersError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_routing)
    app.add_exception_handler(Exception, _unexpected)


async def _known(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, AdaptersError)
    return answer_of(error)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{"where": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
    text = "; ".join(f"{line['where']}: {line['problem']}" for line in found[:5])
    return _plain(422, WrongUsage.code, f"the request is not as documented: {text}", problems=found)


async def _of_routing(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return answer_of(error)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    # The cause is for the log: it may hold what the caller must not see.
    place = (request.method, request.url.path, getattr(request.state, "request_id", "-"))
    _log.exception("unexpected error in %s %s, request %s", *place, exc_info=error)
    return _plain(500, "unexpected", "the server failed; its log says why")


def _plain(status: int, code: str, message: str, **detail: Any) -> JSONResponse:
    return JSONResponse({"error": code, "message": message, "hint": "", "detail": detail}, status)
