"""What a server answered: a JSON document of bounded size, or the error that it met, as the class that it had there."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from registry.domain.errors import AdaptersError, Failure, ServerFailure

MOST = 64 << 20  # bytes of a document: 37,000 modules are 12 MB
_PLAIN = (str, int, float, type(None))


def document_of(body: bytes, url: str) -> Any:
    """An answer's document. Raises ServerFailure for what isn't one."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ServerFailure("it answered something that is not JSON: is this a registry's address?", url) from None


def error_of(status: int, body: bytes, url: str) -> AdaptersError:
    """The error that an answer tells of: the same class with the same fields, so the same message and exit code."""
    try:
        document = json.loads(body)
        return error_from(document) or ServerFailure(str(document["message"]), url)
    except (ValueError, RecursionError, KeyError, TypeError):
        return ServerFailure(f"it answered with status {status}", url)


def error_from(document: Mapping[str, Any]) -> AdaptersError | None:
    """The error that a document tells of; None for a code that isn't known here. Raises KeyError, TypeError."""
    kind = _classes().get(str(document["error"]))
    return _rebuilt(kind, str(document["message"]), document.get("detail")) if kind else None


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


def _classes() -> dict[str, type[AdaptersError]]:
    return {kind.code: kind for kind in _below(AdaptersError)}


def _below(kind: type[AdaptersError]) -> Iterator[type[AdaptersError]]:
    for below in kind.__subclasses__():
        yield below
        yield from _below(below)
