"""Webhooks: the message that an event becomes, its signature, and how patiently it is sent again. Pure.

Source: Standard Webhooks 1.0.0, https://github.com/standard-webhooks/standard-webhooks (spec/standard-webhooks.md)
"""

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from registry.domain.documents import event_document
from registry.domain.records import Event
from registry.domain.webhook_secrets import PREFIX

_GONE = 410


class WebhookState(StrEnum):
    """Whether a webhook gets anything: it is failing once a message was given up, until somebody asks for a replay."""

    ACTIVE = "active"
    FAILING = "failing"


class DeliveryState(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    GIVEN_UP = "given_up"
    REPLAYING = "replaying"  # somebody asked for it again


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a team's events are sent, without its secret. `cursor` is the last event that is done with.

    `kinds` and `adapters` (as team/name) are what it wants to hear of; None is everything. `attempts`, `next_at` and
    `error` are about the message that is being retried.
    """

    id: int
    uid: str
    team: str
    url: str
    description: str
    kinds: tuple[str, ...] | None
    adapters: tuple[str, ...] | None
    state: WebhookState
    cursor: int
    attempts: int
    failed_since: datetime | None
    next_at: datetime | None
    error: str | None
    actor: str
    created_at: datetime

    def wants(self, event: Event) -> bool:
        """Whether an event passes its filters."""
        if self.kinds is not None and event.kind not in self.kinds:
            return False
        if self.adapters is None:
            return True
        return event.adapter is not None and event.adapter.key in {name.lower() for name in self.adapters}

    def message_id(self, cursor: int) -> str:
        """The id of an event's message: the same however often it is sent."""
        return f"msg_{self.uid}_{cursor}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an event's message. `status` is that of the last answer, if there was one."""

    id: str
    webhook: int
    cursor: int
    kind: str
    adapter: str | None
    state: DeliveryState
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: the body, under an id."""

    id: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. `wait` is how many seconds the receiver asked to be left alone."""

    status: int | None
    error: str | None
    milliseconds: int
    wait: int = 0

    @property
    def delivered(self) -> bool:
        return self.error is None

    @property
    def unwanted(self) -> bool:
        """The receiver says that it will never be back (410 Gone)."""
        return self.status == _GONE


@dataclass(frozen=True, slots=True)
class Patience:
    """How messages are sent again. `timeout` is a whole attempt's, `lease` how long a sender may be silent."""

    first: float = 5.0  # seconds before the second attempt; doubled for each further one
    longest: float = 3600.0  # seconds
    give_up: timedelta = timedelta(days=3)  # after the first attempt of a message
    timeout: float = 10.0  # seconds
    lease: timedelta = timedelta(seconds=60)

    def wait(self, attempts: int, chance: float) -> timedelta:
        """How long to wait after so many attempts; `chance` in [0, 1) spreads those who wait for the same reason."""
        seconds = min(self.longest, self.first * 2.0 ** min(attempts - 1, 40))
        return timedelta(seconds=seconds * (0.75 + 0.5 * chance))


def message_of(webhook: Webhook, event: Event) -> Message:
    """An event as a message: {"type", "timestamp", "data"}; `data` is the event as /v1/watch tells it."""
    return Message(webhook.message_id(event.cursor), _body(event.kind, event.at, event_document(event)))


def ping_of(webhook: Webhook, at: datetime) -> Message:
    """A message that tells of nothing, to try a receiver."""
    return Message(f"msg_{webhook.uid}_ping_{secrets.token_hex(8)}", _body("ping", at, {"webhook": webhook.id}))


def _body(kind: str, at: datetime | None, data: object) -> bytes:
    document = {"type": kind, "timestamp": at.isoformat() if at else None, "data": data}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def signed_headers(message: Message, keys: Sequence[str], at: datetime) -> dict[str, str]:
    """The three headers by which a receiver knows who sent a message and when; a signature by each secret."""
    timestamp = str(int(at.timestamp()))
    signed = f"{message.id}.{timestamp}.".encode() + message.body
    signatures = [f"v1,{_signature(key, signed)}" for key in keys]
    return {
        "webhook-id": message.id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(signatures),
    }


def _signature(key: str, signed: bytes) -> str:
    secret = base64.b64decode(key.removeprefix(PREFIX))
    return base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
