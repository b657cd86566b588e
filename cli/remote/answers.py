"""What a server answered: a JSON document of bounded size, or the error that it met, as the class that it had there."""

import json
from typing import Any

from registry.domain.error_documents import error_from
from registry.domain.errors import AdaptersError, ServerFailure

MOST = 64 << 20  # bytes of a document: 37,000 modules are 12 MB


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
