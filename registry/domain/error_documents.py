"""Errors as JSON, and back: the same class with the same fields, so the same message and exit code.

{"error": <code>, "message": <what is wrong, and where>, "hint": <what to do next>, "detail": {…}}
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from registry.domain.errors import AdaptersError, Failure

_PLAIN = (str, int, float, type(None))


def error_document(error: AdaptersError) -> dict[str, Any]:
    """An error as a document."""
    return {"error": error.code, "message": error.message, "hint": error.hint, "detail": error.detail}


def error_from(document: Mapping[str, Any]) -> AdaptersError | None:
    """The error that a document tells of; None for a code that this program doesn't know.

    Raises KeyError, TypeError for what is no such document.
    """
    message, detail = str(document["message"]), document.get("detail")
    kind = {kind.code: kind for kind in _below(AdaptersError)}.get(str(document["error"]))
    return _rebuilt(kind, message, detail) if kind else None


def _rebuilt(kind: type[AdaptersError], message: str, detail: Any) -> AdaptersError:
    names = [field.name for field in fields(kind)]
    if (
        isinstance(detail, Mapping)
        and set(detail) == set(names)
        and all(isinstance(v, _PLAIN) for v in detail.values())
    ):
        error = kind(**detail)
        try:
            return error if error.message == message else _said(kind, names, message)
        except (ValueError, TypeError):
            pass
    return _said(kind, names, message)


def _said(kind: type[AdaptersError], names: list[str], message: str) -> AdaptersError:
    """An error of a server of another version: its own words, in the class if that only holds words."""
    return kind(**{"reason": message}) if names == ["reason"] else Failure(message)


def _below(kind: type[AdaptersError]) -> Iterator[type[AdaptersError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)
