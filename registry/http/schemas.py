"""What every documented answer has in common: a strict shape, the shape of errors, and how a route names them.

Shapes mirror registry/domain/documents.py, field by field. Answers aren't built from them, so they cost nothing; a test
holds real answers against them.
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

# What examples are about.
NAME, TIME = "acme/support", "2026-11-22T05:00:00+00:00"
COMMIT = "3f5f9c8cc56ab9887d4c16f018cfb2793053dcaf"
DIGITS = "7a67decc6d52bc649c5ffd8a4f5e5c9c787686ee408b2ac0e0294889ada0a02b"
DIGEST = f"sha256:{DIGITS}"


class Shape(BaseModel):
    """An answer: these fields and no others. One that is made of others has their examples for its own."""

    model_config = ConfigDict(extra="forbid")

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core)
        described = handler.resolve_ref_schema(schema)
        if "examples" not in described and (composed := _composed(cls)) is not None:
            described["examples"] = [composed]
        return schema


def example_of(shape: type[Shape]) -> dict[str, Any]:
    """A shape's own example."""
    extra: Any = shape.model_config["json_schema_extra"]
    return dict(extra["examples"][0])


def _composed(shape: type[Shape]) -> dict[str, Any] | None:
    """An example made of those of the fields' shapes; None where a field is a bare number or text."""
    found: dict[str, Any] = {}
    for name, field in shape.model_fields.items():
        kind: Any = field.annotation
        origin, (inner, *_) = get_origin(kind), get_args(kind) or (None,)
        if _has_example(kind):
            found[name] = example_of(kind)
        elif origin is list and _has_example(inner):
            found[name] = [example_of(inner)]
        elif origin is UnionType and type(None) in get_args(kind):
            found[name] = None
        else:
            return None
    return found


def _has_example(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Shape) and "json_schema_extra" in kind.model_config


def example(**fields: Any) -> ConfigDict:
    """The settings of a shape with these fields as its example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [fields]})


class Error(Shape):
    """What went wrong: a stable code, what and where, what to do next, and the fields for machines."""

    model_config = example(
        error="adapter_not_found",
        message="there is no adapter 'acme/nothing'",
        hint="`adapters list` shows what there is; `adapters push PATH acme/nothing` creates it",
        detail={"name": "acme/nothing"},
    )

    error: str
    message: str
    hint: str
    detail: dict[str, Any]


Responses = dict[int | str, dict[str, Any]]  # as FastAPI takes them
_PROBLEMS: Mapping[int, str] = {
    400: "it makes no sense",
    401: "the token is missing, unknown, expired or revoked",
    403: "known, but not the caller's to do",
    404: "there is none, or none that the caller may see",
    408: "the body stopped coming",
    409: "it doesn't fit what there is",
    410: "it was revoked or purged",
    412: "somebody else was first",
    413: "the body is too large",
    416: "a range outside the file",
    422: "it is not as documented",
    428: "a condition is needed",
    429: "too many wrong tokens came from the caller's address, or too much of it waits; Retry-After says how long",
    503: "the database or the store is away for now",
    507: "there is no space left, or the team's quota has no room for it",
}


def documented(shape: type[Shape] | UnionType | None, *codes: int, status: int = 200) -> Responses:
    """What a route answers, for the OpenAPI document: a shape, or nothing, and what can go wrong."""
    done: dict[str, Any] = {"description": "done"}
    if shape is not None:
        done = {"model": shape, "description": _sentence(shape)}
    return {status: done, **problems(*codes)}


def problems(*codes: int) -> Responses:
    """What can go wrong, for the OpenAPI document; everywhere the token, and a request that is not as documented."""
    return {code: {"model": Error, "description": _PROBLEMS[code]} for code in sorted({*codes, 401, 422, 429, 503})}


def _sentence(shape: type[Shape] | UnionType) -> str:
    shapes = shape.__args__ if isinstance(shape, UnionType) else (shape,)
    return " Or: ".join((one.__doc__ or "").strip() for one in shapes)
