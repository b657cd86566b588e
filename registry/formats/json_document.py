"""JSON from strangers: bounded, strict, without duplicate keys.

The standard reader takes the last of two equal keys, NaN, and any depth or size; two readers of one file may then
disagree about what it says.
"""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from registry.domain.errors import InvalidFile


@dataclass(frozen=True, slots=True)
class JsonLimits:
    """`size` in bytes; `depth` in levels of nesting."""

    size: int = 4 << 20
    depth: int = 32


class _Refused(ValueError):
    """A rule of ours broken while the standard reader runs."""


def parse_object(data: bytes, *, path: str, limits: JsonLimits | None = None) -> dict[str, Any]:
    """Read a JSON document whose top is an object.

    Raises InvalidFile for one that is too large or too deep, is not UTF-8, repeats a key, or holds NaN, infinity or
    half a surrogate pair.
    """
    limits = limits or JsonLimits()
    if len(data) > limits.size:
        raise InvalidFile(path, "size", f"{len(data)} bytes of JSON; {limits.size} are allowed")
    try:
        document = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidFile(path, "nesting", f"deeper than {limits.depth} levels") from None
    except UnicodeDecodeError as error:
        raise InvalidFile(path, f"byte {error.start}", "it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidFile(path, f"line {error.lineno}, column {error.colno}", f"not JSON: {error.msg}") from None
    except ValueError as error:
        raise InvalidFile(path, "content", str(error)) from None
    if not isinstance(document, dict):
        raise InvalidFile(path, "top level", "a JSON object is needed")
    check_values(document, path, limits)
    return document


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `object_pairs_hook`: a dict, or ValueError for a key that comes twice."""
    document = dict(pairs)
    if len(document) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"the key {key[:80]!r} comes twice")
            seen.add(key)
    return document


def _no_constant(constant: str) -> NoReturn:
    raise _Refused(f"{constant} is not a JSON number")


def check_values(document: dict[str, Any], path: str, limits: JsonLimits) -> None:
    """Refuse what somebody else's reader let pass: infinity, half surrogate pairs, nesting. Raises InvalidFile."""
    level: list[Any] = [document]
    for _ in range(limits.depth):
        below: list[Any] = []
        for value in level:
            below.extend(_children(value))
        for value in below:
            if isinstance(value, float) and value in (float("inf"), float("-inf")):
                raise InvalidFile(path, "content", "a number is too large")
            if isinstance(value, str) and not _is_text(value):
                raise InvalidFile(path, "content", "a string holds half a surrogate pair")
        level = [value for value in below if isinstance(value, dict | list)]
        if not level:
            return
    raise InvalidFile(path, "nesting", f"deeper than {limits.depth} levels")


def _children(value: Any) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
