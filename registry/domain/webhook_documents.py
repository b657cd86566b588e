"""The JSON shapes of webhooks and of what became of their messages, there and back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from registry.domain.records import Page
from registry.domain.webhooks import Delivery, DeliveryState, Outcome, Webhook, WebhookState


def webhook_document(webhook: Webhook) -> dict[str, Any]:
    """A webhook; its secret stands only in the answers that make one."""
    return {
        "id": webhook.id,
        "uid": webhook.uid,
        "team": webhook.team,
        "url": webhook.url,
        "description": webhook.description,
        "kinds": None if webhook.kinds is None else list(webhook.kinds),
        "adapters": None if webhook.adapters is None else list(webhook.adapters),
        "state": webhook.state.value,
        "cursor": webhook.cursor,
        "attempts": webhook.attempts,
        "failed_since": _text(webhook.failed_since),
        "next_at": _text(webhook.next_at),
        "error": webhook.error,
        "actor": webhook.actor,
        "created_at": webhook.created_at.isoformat(),
    }


def webhook_of(document: Mapping[str, Any]) -> Webhook:
    """The inverse of `webhook_document`."""
    return Webhook(
        id=int(document["id"]),
        uid=str(document["uid"]),
        team=str(document["team"]),
        url=str(document["url"]),
        description=str(document["description"]),
        kinds=_texts(document["kinds"]),
        adapters=_texts(document["adapters"]),
        state=WebhookState(document["state"]),
        cursor=int(document["cursor"]),
        attempts=int(document["attempts"]),
        failed_since=_time(document["failed_since"]),
        next_at=_time(document["next_at"]),
        error=_optional(document["error"]),
        actor=str(document["actor"]),
        created_at=datetime.fromisoformat(document["created_at"]),
    )


def delivery_document(delivery: Delivery) -> dict[str, Any]:
    return {
        "id": delivery.id,
        "webhook": delivery.webhook,
        "cursor": delivery.cursor,
        "kind": delivery.kind,
        "name": delivery.adapter,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "status": delivery.status,
        "error": delivery.error,
        "milliseconds": delivery.milliseconds,
        "first_at": delivery.first_at.isoformat(),
        "last_at": delivery.last_at.isoformat(),
    }


def deliveries_document(page: Page[Delivery]) -> dict[str, Any]:
    return {"deliveries": [delivery_document(delivery) for delivery in page.items], "cursor": page.cursor}


def deliveries_of(document: Mapping[str, Any]) -> Page[Delivery]:
    """The inverse of `deliveries_document`."""
    return Page(tuple(map(_delivery, document["deliveries"])), _optional(document["cursor"]))


def _delivery(document: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=str(document["id"]),
        webhook=int(document["webhook"]),
        cursor=int(document["cursor"]),
        kind=str(document["kind"]),
        adapter=_optional(document["name"]),
        state=DeliveryState(document["state"]),
        attempts=int(document["attempts"]),
        status=_number(document["status"]),
        error=_optional(document["error"]),
        milliseconds=_number(document["milliseconds"]),
        first_at=datetime.fromisoformat(document["first_at"]),
        last_at=datetime.fromisoformat(document["last_at"]),
    )


def outcome_document(outcome: Outcome) -> dict[str, Any]:
    """What came of one attempt."""
    return {
        "delivered": outcome.delivered,
        "status": outcome.status,
        "error": outcome.error,
        "milliseconds": outcome.milliseconds,
    }


def outcome_of(document: Mapping[str, Any]) -> Outcome:
    """The inverse of `outcome_document`."""
    return Outcome(_number(document["status"]), _optional(document["error"]), int(document["milliseconds"]))


def _texts(values: Any) -> tuple[str, ...] | None:
    return None if values is None else tuple(map(str, values))


def _number(value: Any) -> int | None:
    return None if value is None else int(value)


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)


def _text(at: datetime | None) -> str | None:
    return at.isoformat() if at else None


def _time(value: Any) -> datetime | None:
    return None if value is None else datetime.fromisoformat(value)
