"""Who is asking: the bearer token of a request becomes a caller, who is remembered while nothing changes.

`registry.http.freshness` tells when tokens, roles or teams changed: then all callers are forgotten. So a revoked token
is refused at once on its machine and within a second everywhere, and a client costs one query a minute, in which its
last use is noted, instead of one a request. Failed attempts are slowed down per address.
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Scope

from registry.domain.errors import NotAuthenticated
from registry.domain.rights import Caller, Readable
from registry.http.freshness import Freshness
from registry.service import Registry

REMEMBERED = 60.0  # seconds at most; a token's last use is noted when its caller is asked for anew
FAILURES = 20  # attempts of one address with wrong tokens, before it has to wait,
WINDOW = 60.0  # in so many seconds
_MOST = 10_000  # callers and addresses kept in mind

_bearer = HTTPBearer(auto_error=False, description="A token of `adapters token create`.")


@dataclass(frozen=True, slots=True)
class Known:
    """A caller, what it may read, and until when (monotonic clock) its token may be trusted."""

    caller: Caller
    readable: Readable | None
    until: float


class Doorkeeper:
    """Callers by token, and addresses that tried too often. Of one worker, on its event loop."""

    def __init__(self, registry: Registry, freshness: Freshness) -> None:
        self._registry = registry
        self._freshness = freshness
        self._known: OrderedDict[str, Known] = OrderedDict()
        self._asked: dict[str, asyncio.Task[Known]] = {}
        self._forgot = 0
        self._good: OrderedDict[str, None] = OrderedDict()
        self._guesses = Guesses()

    def remembered(self, secret: str) -> Known | None:
        """The caller of a token that is known to be good, for those who made sure of the freshness."""
        known = self._known.get(_key(secret))
        return known if known and time.monotonic() < known.until else None

    async def admit(self, secret: str, address: str) -> Known:
        """The caller of a token. However many ask at once, the database is asked once.

        Raises NotAuthenticated, DatabaseFailure; HTTPException 429 for an address that keeps guessing.
        """
        if not self._freshness.holds():
            await self._freshness.ensure()
        if known := self.remembered(secret):
            return known
        if _key(secret) not in self._good:  # one that was good doesn't pay for what others of its address try
            self._guesses.refuse(address)
        try:
            return await asyncio.shield(self._asking(secret))
        except NotAuthenticated:
            self._good.pop(_key(secret), None)
            self._guesses.note(address)
            raise

    def forget(self) -> None:
        """Ask for every caller anew."""
        self._known.clear()
        self._asked.clear()
        self._forgot += 1

    def _asking(self, secret: str) -> asyncio.Task[Known]:
        """The question about a token that is under way, or a new one."""
        key = _key(secret)
        if key not in self._asked:
            task = self._asked[key] = asyncio.create_task(self._ask(secret))
            task.add_done_callback(lambda _: self._asked.get(key) is task and self._asked.pop(key))
        return self._asked[key]

    async def _ask(self, secret: str) -> Known:
        asked_at, forgot = time.monotonic(), self._forgot
        admission = await run_in_threadpool(self._registry.admit, secret)
        lasts = min(REMEMBERED, admission.lasts)
        known = Known(admission.caller, admission.caller.readable, asked_at + lasts)
        self._good[_key(secret)] = None
        if forgot == self._forgot:  # else this may be what was to be forgotten
            self._known[_key(secret)] = known
        for kept in (self._good, self._known):
            while len(kept) > _MOST:
                kept.popitem(last=False)
        return known


class Guesses:
    """When addresses came with wrong tokens."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def refuse(self, address: str) -> None:
        """Raises HTTPException 429 for an address that keeps guessing."""
        recent = [at for at in self._failed.get(address, ()) if at > time.monotonic() - WINDOW]
        if len(recent) >= FAILURES:
            wait = int(recent[0] + WINDOW - time.monotonic()) + 1
            raise HTTPException(429, "too many wrong tokens from this address", {"Retry-After": str(wait)})

    def note(self, address: str) -> None:
        """Take down a failure."""
        attempts = self._failed.pop(address, [])[-FAILURES:]
        self._failed[address] = [*attempts, time.monotonic()]
        while len(self._failed) > _MOST:
            self._failed.popitem(last=False)


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def address_of(scope: Scope) -> str:
    """Where a request comes from; behind trusted proxies, what they say."""
    client = scope.get("client")
    return str(client[0]) if client else ""


async def caller_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """The caller of a request. Raises NotAuthenticated.

    Whoever is remembered waits for no thread. The request's state gets the caller, for those who log and remember.
    """
    if credentials is None:
        raise NotAuthenticated("a token is needed: Authorization: Bearer …")
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    caller = (await doorkeeper.admit(credentials.credentials, address_of(request.scope))).caller
    request.state.caller = caller
    return caller


async def registry_of(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Registry:
    """The registry, with the rights of whoever asks."""
    registry: Registry = request.app.state.registry
    return registry.on_behalf_of(caller)


Asked = Annotated[Registry, Depends(registry_of)]
