"""Capabilities: what somebody with a token was allowed to do, put into an address that takes no token.

Some clients send bytes without saying who they are. They get an address that says what it is good for, for whom, and
until when, signed with the servers' secret:

    base64url(canonical JSON of {"for", "until", …claims}) "." base64url(HMAC-SHA256 over that JSON)

It gives no right by itself: whoever acts on it asks for the token's rights as they are then, so that a revoked token
takes its addresses with it. Never log one.
"""

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import Any

from starlette.exceptions import HTTPException

from registry.domain.digest import canonical_json

MAX_LENGTH = 2_000  # characters: what any proxy lets pass in a path
_CONTEXT = b"adapters capability 1\n"
_REFUSAL = "this address is no longer good, or was never: begin again"


class Capabilities:
    """Signs and reads them. Every worker of every server has the same secret."""

    def __init__(self, secret: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self._secret = secret
        self._clock = clock

    def sign(self, purpose: str, claims: Mapping[str, Any], *, seconds: int) -> str:
        """A capability for one purpose and so long; `claims` are JSON values."""
        body = canonical_json({**claims, "for": purpose, "until": int(self._clock()) + seconds})
        return f"{_text(body)}.{_text(self._signature(body))}"

    def read(self, purpose: str, capability: str) -> dict[str, Any]:
        """The claims of a capability for this purpose. Raises HTTPException 403 for any other text."""
        body = self._verified(capability)
        claims: dict[str, Any] = json.loads(body) if body else {}
        if claims.pop("for", None) != purpose or self._clock() >= claims.pop("until"):
            raise HTTPException(403, _REFUSAL)
        return claims

    def _verified(self, capability: str) -> bytes | None:
        try:
            body, signature = map(_bytes, capability[: MAX_LENGTH + 1].split("."))
        except ValueError:
            return None
        if len(capability) > MAX_LENGTH or not hmac.compare_digest(signature, self._signature(body)):
            return None
        return body

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._secret, _CONTEXT + body, hashlib.sha256)


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
