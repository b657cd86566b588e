"""Refusals as the Hub's clients read them: a status, X-Error-Code, and X-Error-Message with text for people.

Clients decide by X-Error-Code what to raise; the message reaches whoever runs them.
"""

from collections.abc import Mapping

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.domain.errors import (
    AdapterNotFound,
    AdaptersError,
    AliasNotFound,
    FileNotInVersion,
    InvalidReference,
    NotAuthenticated,
    Refused,
    TeamNotFound,
    VersionNotFound,
)
from registry.http.errors import status_of

_MOST = 2_000  # characters of a message in a header

# The first class that an error is an instance of decides; what isn't here has no code that a client knows.
_CODES: Mapping[type[AdaptersError], str] = {
    AdapterNotFound: "RepoNotFound",
    TeamNotFound: "RepoNotFound",
    InvalidReference: "RepoNotFound",
    AliasNotFound: "RevisionNotFound",
    VersionNotFound: "RevisionNotFound",
    FileNotInVersion: "EntryNotFound",
}


def refusal(error: AdaptersError | HTTPException, *, anonymous: bool = False) -> JSONResponse:
    """An error as a Hub's answer. To somebody without a token, what is absent is what needs one."""
    if isinstance(error, HTTPException):
        return _answer(error.status_code, str(error.detail), None, error.headers)
    if isinstance(error, NotAuthenticated):
        if anonymous:
            return _answer(401, str(error), "RepoNotFound")
        return _answer(401, "Invalid credentials in Authorization header")
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    return _answer(_status(error), _text(error), code)


def _status(error: AdaptersError) -> int:
    if isinstance(error, InvalidReference):
        return 404  # a name that can't be is absent, for clients
    status = status_of(error)
    return 400 if status == 422 and isinstance(error, Refused) else status


def _text(error: AdaptersError) -> str:
    return f"{error} {error.hint}".strip()


def _answer(
    status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    answer = JSONResponse({"error": message}, status, headers=dict(headers or {}))
    line = " ".join(message.split())[:_MOST]
    answer.headers["X-Error-Message"] = line.encode("ascii", "replace").decode()
    if code:
        answer.headers["X-Error-Code"] = code
    return answer
