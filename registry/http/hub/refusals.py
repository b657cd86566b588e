"""Refusals as the Hub's clients read them: a status, X-Error-Code, and X-Error-Message with text for people.

Clients decide by X-Error-Code what to raise; the message reaches whoever runs them. On RepoNotFound, and on errors
without a code, they fall back to what they have in their cache: what was withdrawn is a revision that isn't found,
for which they don't. There is no GatedRepo: what a caller may not read is absent.
"""

from collections.abc import Mapping

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from registry.domain.errors import (
    AdapterNotFound,
    AdaptersError,
    AliasNotFound,
    FileNotInVersion,
    Gone,
    InvalidReference,
    NotActive,
    NotAuthenticated,
    Refused,
    TeamNotFound,
    VersionNotFound,
)
from registry.http.errors import status_of

_MOST = 2_000  # characters of a message in a header

_NO_REPO, _NO_REVISION, _NO_ENTRY = "RepoNotFound", "RevisionNotFound", "EntryNotFound"
# The first class that an error is an instance of decides; what isn't here has no code that a client knows.
_CODES: Mapping[type[AdaptersError], str] = {
    AdapterNotFound: _NO_REPO,
    TeamNotFound: _NO_REPO,
    InvalidReference: _NO_REPO,
    AliasNotFound: _NO_REVISION,
    VersionNotFound: _NO_REVISION,
    NotActive: _NO_REVISION,
    Gone: _NO_REVISION,
    FileNotInVersion: _NO_ENTRY,
}
_ABSENT = (
    "there is no repository {name} in this registry, or none that your token may read. If it is a base model: put it "
    "here with `adapters base publish`, or download it with HF_ENDPOINT unset and load it from that folder"
)


def refusal(
    error: AdaptersError | HTTPException, *, anonymous: bool = False, of_revision: bool = False
) -> JSONResponse:
    """An error as a Hub's answer, to a call about a revision or about a repository.

    To somebody without a token, what is absent is what needs one.
    """
    if isinstance(error, HTTPException):
        return _answer(error.status_code, str(error.detail), None, error.headers)
    if isinstance(error, NotAuthenticated):
        if anonymous:
            return _answer(401, str(error), _NO_REPO)
        return _answer(401, "Invalid credentials in Authorization header")
    return _answer(_status(error), _text(error), _code(error, of_revision=of_revision))


def _code(error: AdaptersError, *, of_revision: bool) -> str | None:
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    if code == _NO_REVISION and not of_revision:
        return _NO_REPO  # a view of what isn't there isn't there
    return code


def _status(error: AdaptersError) -> int:
    if isinstance(error, InvalidReference):
        return 404  # a name that can't be is absent, for clients
    status = status_of(error)
    return 400 if status == 422 and isinstance(error, Refused) else status


def _text(error: AdaptersError) -> str:
    if isinstance(error, AdapterNotFound):
        return _ABSENT.format(name=error.name)
    return f"{error}; {error.hint}" if error.hint else str(error)


def _answer(
    status: int, message: str, code: str | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    answer = JSONResponse({"error": message}, status, headers=dict(headers or {}))
    line = " ".join(message.split())[:_MOST]
    answer.headers["X-Error-Message"] = line.encode("ascii", "replace").decode()
    if code:
        answer.headers["X-Error-Code"] = code
    return answer
