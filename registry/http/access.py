"""Who is asking: the bearer token of a request becomes a caller, remembered for half a second.

So a revoked token is refused within a second on every worker of every machine, and a busy client costs one query
each half second instead of one a request. Failed attempts are slowed down per address.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from registry.domain.errors import NotAuthenticated
from registry.domain.rights import Caller
from registry.service import Registry

REMEMBERED = 0.5  # seconds
FAILURES = 20  # attempts of one address with wrong tokens, before it has to wait,
WINDOW = 60.0  # in so many seconds
_MOST = 10_000  # callers and addresses kept in mind

_bearer = HTTPBearer(auto_error=False, description="A token of `adapters token create`.")


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    until: float


class Doorkeeper:
    """Callers by token, and addresses that tried too often. Safe between threads; one a worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._failed: OrderedDict[str, list[float]] = OrderedDict()

    def remembered(self, secret: str) -> Caller | None:
        """The caller of a token that was good a moment ago."""
        with self._lock:
            known = self._known.get(_key(secret))
        return known.caller if known and time.monotonic() < known.until else None

    def authenticate(self, registry: Registry, secret: str, address: str) -> Caller:
        """The caller of a token. Raises NotAuthenticated; HTTPException 429 for an address that keeps guessing."""
        if caller := self.remembered(secret):
            return caller
        if not self._came_before(secret):
            self._refuse_guessing(address)
        until = time.monotonic() + REMEMBERED  # from before the question: a revocation after it counts
        try:
            caller = registry.authenticate(secret)
        except NotAuthenticated:
            self._note_failure(secret, address)
            raise
        with self._lock:
            self._known[_key(secret)] = _Known(caller, until)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return caller

    def _came_before(self, secret: str) -> bool:
        """Whether a token was good when it was last shown: it doesn't pay for what others of its address try."""
        with self._lock:
            return _key(secret) in self._known

    def _refuse_guessing(self, address: str) -> None:
        with self._lock:
            recent = [at for at in self._failed.get(address, ()) if at > time.monotonic() - WINDOW]
        if len(recent) >= FAILURES:
            wait = int(recent[0] + WINDOW - time.monotonic()) + 1
            raise HTTPException(429, "too many wrong tokens from this address", {"Retry-After": str(wait)})

    def _note_failure(self, secret: str, address: str) -> None:
        with self._lock:
            self._known.pop(_key(secret), None)
            attempts = self._failed.pop(address, [])[-FAILURES:]
            self._failed[address] = [*attempts, time.monotonic()]
            while len(self._failed) > _MOST:
                self._failed.popitem(last=False)


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def address_of(request: Request) -> str:
    """Where a request comes from; behind trusted proxies, what they say."""
    return request.client.host if request.client else ""


async def caller_of(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
) -> Caller:
    """The caller of a request. Raises NotAuthenticated.

    Whoever is remembered waits for no thread. The request's state gets the caller, for those who log and remember.
    """
    if credentials is None:
        raise NotAuthenticated("a token is needed: Authorization: Bearer …")
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    caller = doorkeeper.remembered(credentials.credentials)
    if caller is None:
        registry, address = request.app.state.registry, address_of(request)
        caller = await run_in_threadpool(doorkeeper.authenticate, registry, credentials.credentials, address)
    request.state.caller = caller
    return caller


async def registry_of(request: Request, caller: Annotated[Caller, Depends(caller_of)]) -> Registry:
    """The registry, with the rights of whoever asks."""
    registry: Registry = request.app.state.registry
    return registry.on_behalf_of(caller)


Asked = Annotated[Registry, Depends(registry_of)]
