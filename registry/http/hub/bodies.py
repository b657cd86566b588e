"""Documents that clients send: read whole, since they are bounded, and held against a shape."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException

from registry.http.hub.routing import Call

T = TypeVar("T", bound=BaseModel)


async def read(call: Call, shape: type[T]) -> T:
    """The body of a call; an empty one is an empty document. Raises HTTPException 400 that names what is wrong."""
    return parsed(await call.request.body() or b"{}", shape, what="the body")


def parsed(text: bytes, shape: type[T], *, what: str) -> T:
    """A JSON document of that shape. Raises HTTPException 400 that names what is wrong."""
    try:
        return shape.model_validate_json(text)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = (f"{'.'.join(map(str, one['loc']))[:100]}: {one['msg']}".lstrip(": ") for one in found[:5])
        raise HTTPException(400, f"{what} is not as expected: {'; '.join(problems)}") from None
