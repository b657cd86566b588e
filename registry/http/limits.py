"""How large a request's body may be: documents are bounded before they are read; blobs are streamed elsewhere."""

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from registry.http.hub.routing import segments_of
from registry.http.hub.sending import STREAMED

MOST = 2**20  # bytes of a document
MOST_OF_A_BASE = 64 * 2**20  # a tensor index has a line for each of up to 200,000 tensors
MOST_OF_AN_EVALUATION = 8 * 2**20  # 50,000 examples
MOST_OF_A_XORB = 65 * 2**20  # and of a shard; both are written to the disk as they come
MOST_OF_A_COMMIT = 512 * 2**20  # its lines are bounded, and go to the disk as they come
MOST_OF_A_PREUPLOAD = 16 * 2**20  # 10,000 files, each with a sample in base64
_XET = "/api/xet/"
_STREAMED = ("/v1/uploads/", STREAMED)  # paths of PUT whose bodies are streamed, and counted where they go


class BodyLimit:
    """Middleware that refuses a body as soon as it is known to be too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD") or _is_streamed(scope):
            await self._app(scope, receive, send)
            return
        limit = _limit(scope)
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise HTTPException(413, f"a body of at most {limit} bytes is read here")
            return message

        await self._app(scope, bounded, send)


def _limit(scope: Scope) -> int:
    path = scope["path"]
    if path == "/v1/bases":
        return MOST_OF_A_BASE
    if path.startswith(_XET):
        return MOST_OF_A_XORB
    match segments_of(scope):
        case ["api", "models", _, _, "commit", _]:
            return MOST_OF_A_COMMIT
        case ["api", "models", _, _, "preupload", _]:
            return MOST_OF_A_PREUPLOAD
    return MOST_OF_AN_EVALUATION if path.endswith("/evaluations") else MOST


def _is_streamed(scope: Scope) -> bool:
    return bool(scope["method"] == "PUT" and scope["path"].startswith(_STREAMED))
