"""What clients ask in a query: flags, counts, and which properties they want."""

from typing import Any

from registry.domain.errors import WrongUsage
from registry.http.hub.routing import Call

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"", "0", "false", "no"})


def truth(name: str, text: str) -> bool:
    """A flag's value. Raises WrongUsage."""
    lowered = text.lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise WrongUsage(f"{name} is true or false, not {text[:80]!r}")


def flag(call: Call, name: str) -> bool:
    """A flag of the query; absent is false. Raises WrongUsage."""
    return truth(name, call.request.query_params.get(name, ""))


def count(call: Call, name: str, *, most: int) -> int:
    """A number of the query, at most so many; absent is the most. Raises WrongUsage."""
    text = call.request.query_params.get(name)
    if text is None:
        return most
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise WrongUsage(f"{name} is a number above 0, not {text[:80]!r}")
    return min(int(text), most)


def wanted_of(call: Call) -> set[str]:
    """The properties that `expand` names; none of them stands for the usual ones."""
    query = call.request.query_params
    return {*query.getlist("expand"), *query.getlist("expand[]")}


def expanded(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    """A document, or of it only what `expand` names; what the registry doesn't know isn't there."""
    wanted = wanted_of(call)
    return {key: value for key, value in document.items() if not wanted or key in wanted | {"id", "modelId"}}
