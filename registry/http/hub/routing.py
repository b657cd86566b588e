"""Routes on the raw path: clients quote a revision whole, so `team%2Fexp` is one segment and `team/exp` are two.

A template is written as in FastAPI: `{name}` is one segment (`{name}.git` one that ends so), a last `{path:path}` the
rest. A call's endpoint gets its
segments unquoted, and the registry with the rights of whoever asks.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from registry.domain.errors import AdaptersError, NotAuthenticated
from registry.http.access import Doorkeeper, address_of
from registry.http.hub.refusals import refusal
from registry.service import Registry

_REST = ":path}"


@dataclass(frozen=True, slots=True)
class Call:
    """A request that is one of the protocol's calls: its segments, and the registry with the caller's rights."""

    request: Request
    segments: Mapping[str, str]
    registry: Registry

    def __getitem__(self, segment: str) -> str:
        return self.segments[segment]


Endpoint = Callable[[Call], Awaitable[Response]]


class HubRoute(BaseRoute):
    """One call of the protocol. `public`: whoever asks needs no token of ours, since the address itself grants it."""

    def __init__(self, methods: str | Sequence[str], path: str, endpoint: Endpoint, *, public: bool = False) -> None:
        self.methods = frozenset([methods] if isinstance(methods, str) else methods)
        self.path = path
        self._endpoint = endpoint
        self._public = public
        self._template = path.strip("/").split("/")

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is this call; the child scope has its segments, and itself for figures."""
        if scope["type"] != "http" or scope["method"] not in self.methods:
            return Match.NONE, {}
        segments = self._match(segments_of(scope))
        return (Match.NONE, {}) if segments is None else (Match.FULL, {"path_params": segments, "route": self})

    def _match(self, found: Sequence[str]) -> dict[str, str] | None:
        template, rest = self._template, self._template[-1].endswith(_REST)
        fixed = len(template) - rest
        if len(found) < fixed or (len(found) > fixed and not rest):
            return None
        named: dict[str, str] = {}
        for part, segment in zip(template[:fixed], found[:fixed], strict=True):
            if part.startswith("{"):
                name, _, end = part[1:].partition("}")
                if not segment.endswith(end):
                    return None
                named[name] = unquote(segment.removesuffix(end))
            elif part != segment:
                return None
        if rest:
            named[template[-1][1 : -len(_REST)]] = "/".join(map(unquote, found[fixed:]))
        return named

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that matched."""
        request = Request(scope, receive, send)
        secret = _secret(request)
        try:
            registry = await self._registry(request, secret)
            answer = await self._endpoint(Call(request, scope["path_params"], registry))
        except (AdaptersError, HTTPException) as error:
            about_revision = "revision" in scope["path_params"] or request.method not in ("GET", "HEAD")
            answer = refusal(error, anonymous=secret is None, of_revision=about_revision)
        await answer(scope, receive, send)

    async def _registry(self, request: Request, secret: str | None) -> Registry:
        registry: Registry = request.app.state.registry
        if self._public:
            return registry
        if secret is None:
            raise NotAuthenticated("a token is needed: set HF_TOKEN")
        doorkeeper: Doorkeeper = request.app.state.doorkeeper
        caller = (await doorkeeper.admit(secret, address_of(request.scope))).caller
        request.state.caller = caller
        return registry.on_behalf_of(caller)


def segments_of(scope: Scope) -> list[str]:
    """The segments of a request's path, as they came."""
    path = scope.get("raw_path") or scope["path"].encode()
    return str(path, "latin-1").partition("?")[0].strip("/").split("/")


def _secret(request: Request) -> str | None:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None
