"""Secrets of webhooks: what is kept of one, and what signs with it. Pure.

Where the servers share a key (ADAPTERS_SECRET), nothing is kept that could sign: the secret is made of that key and of
random digits, and only the digits are kept. Without one the secret itself is kept, since it has to be read to sign.

    kept    derived:<digits>:<check>     32 hex digits; the first 16 of the secret's sha256
    secret  whsec_<base64 of HMAC-SHA256(key, "webhook " digits)>
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

PREFIX = "whsec_"
_DERIVED = "derived"
_BYTES = 32  # the specification of Standard Webhooks asks for 24 to 64
_CHECK = 16  # hex digits that tell a key from another one


class WebhookSecrets:
    """Make and open what is kept, with the servers' key if they have one."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def make(self) -> tuple[str, str]:
        """What to keep of a new secret that nobody can guess, and the secret, as receivers' libraries take it."""
        if self._key is None:
            secret = _written(secrets.token_bytes(_BYTES))
            return secret, secret
        digits = secrets.token_hex(16)
        secret = _derive(self._key, digits)
        return f"{_DERIVED}:{digits}:{_check(secret)}", secret

    def open(self, kept: Iterable[str]) -> list[str]:
        """The secrets that are kept so, without those that were made with another key."""
        return [secret for text in kept if (secret := self._secret(text))]

    def _secret(self, kept: str) -> str | None:
        if kept.startswith(PREFIX):
            return kept
        _, digits, check = kept.split(":")
        secret = _derive(self._key, digits) if self._key else None
        return secret if secret and hmac.compare_digest(_check(secret), check) else None


def _derive(key: bytes, digits: str) -> str:
    return _written(hmac.new(key, f"webhook {digits}".encode(), hashlib.sha256).digest())


def _written(secret: bytes) -> str:
    return PREFIX + base64.b64encode(secret).decode()


def _check(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()[:_CHECK]
