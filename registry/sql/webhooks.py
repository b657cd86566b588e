"""Webhooks: what they are, and who is sending for them.

Whoever sends holds a lease on the webhook's row, taken with SKIP LOCKED on PostgreSQL and under the one write lock on
SQLite. Everything that a sender writes is on condition of its lease: one that was away for too long writes nothing.
"""

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, delete, exists, insert, or_, select, update
from sqlalchemy.engine import Connection

from registry.domain.webhooks import DeliveryState, Webhook, WebhookState
from registry.sql.adapters import Adapters
from registry.sql.tables.events import event_counter
from registry.sql.tables.names import namespaces
from registry.sql.tables.webhooks import deliveries, webhooks


class Webhooks:
    """Queries on webhooks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, webhook: Webhook, secret: str) -> Webhook:
        """Store a new webhook of an existing team; its id is given here."""
        namespace_id = Adapters(self._connection).ensure_namespace(
            webhook.team, actor=webhook.actor, at=webhook.created_at
        )
        row = {
            "uid": webhook.uid,
            "namespace_id": namespace_id,
            "url": webhook.url,
            "description": webhook.description,
            "kinds": None if webhook.kinds is None else list(webhook.kinds),
            "adapters": None if webhook.adapters is None else list(webhook.adapters),
            "secret": secret,
            "state": webhook.state.value,
            "cursor": webhook.cursor,
            "attempts": 0,
            "actor": webhook.actor,
            "created_at": webhook.created_at,
        }
        result = self._connection.execute(insert(webhooks), row)
        assert result.inserted_primary_key is not None
        found = self.find(int(result.inserted_primary_key[0]))
        assert found is not None
        return found

    def find(self, webhook_id: int) -> Webhook | None:
        """A webhook by its number."""
        row = self._connection.execute(_webhooks().where(webhooks.c.id == webhook_id)).first()
        return None if row is None else _record(row)

    def list(self, team: str | None = None) -> builtins.list[Webhook]:
        """Webhooks by number: a team's, or all."""
        statement = _webhooks().order_by(webhooks.c.id)
        if team is not None:
            statement = statement.where(namespaces.c.name_key == team.lower())
        return [_record(row) for row in self._connection.execute(statement)]

    def delete(self, webhook_id: int) -> None:
        """Forget a webhook and what became of its messages."""
        self._connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
        self._connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))

    def secrets(self, webhook_id: int, at: datetime) -> Sequence[str]:
        """What is kept of what signs now: the secret, and the one before it for as long as that stays good."""
        columns = webhooks.c.secret, webhooks.c.former_secret, webhooks.c.former_until
        row = self._connection.execute(select(*columns).where(webhooks.c.id == webhook_id)).first()
        if row is None:
            return ()
        return (row.secret, row.former_secret) if row.former_until and at < row.former_until else (row.secret,)

    def rotate(self, webhook_id: int, secret: str, *, until: datetime) -> None:
        """Sign with a new secret, and with the present one as well until a moment."""
        values = {"secret": secret, "former_secret": webhooks.c.secret, "former_until": until}
        self._connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))

    def rewind(self, webhook_id: int, cursor: int | None) -> None:
        """Let a webhook go on at once, after another event if one is given; what failed before is forgotten."""
        values: dict[str, Any] = {"state": WebhookState.ACTIVE.value, **_FRESH}
        if cursor is not None:
            values["cursor"] = cursor
        self._connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(values))

    # -- sending ------------------------------------------------------------------------------------------------------

    def stirring(self, at: datetime) -> builtins.list[tuple[Webhook, bool]]:
        """The webhooks for which there may be something to send, and nobody sends; whether a message is asked for."""
        statement = _webhooks().add_columns(_ASKED_FOR.label("asked")).where(_is_free(at)).order_by(webhooks.c.id)
        return [(_record(row), bool(row.asked)) for row in self._connection.execute(statement)]

    def claim(self, webhook_id: int, lease: str, *, at: datetime, until: datetime) -> Webhook | None:
        """Take the lease on a webhook for which there may be something to send; None if somebody else has it."""
        free = (
            select(webhooks.c.id)
            .where(webhooks.c.id == webhook_id, _is_free(at))
            .with_for_update(skip_locked=True, of=webhooks)
        )
        if self._connection.scalar(free) is None:
            return None
        taken = {"leased_by": lease, "leased_until": until}
        self._connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(taken))
        return self.find(webhook_id)

    def advance(self, webhook: Webhook, lease: str, *, cursor: int, until: datetime) -> bool:
        """Move on to an event that is done with, and prolong the lease; False if the lease or the place is lost."""
        values = {"cursor": cursor, "leased_until": until, **_FRESH}
        return self._held(webhook, lease, values)

    def postpone(
        self, webhook: Webhook, lease: str, *, state: WebhookState, since: datetime, until: datetime, error: str
    ) -> bool:
        """Note a failed attempt, and until when to wait; False if the lease or the place is lost."""
        values = {
            "state": state.value,
            "attempts": webhooks.c.attempts + 1,
            "failed_since": since,
            "next_at": until,
            "error": error,
        }
        return self._held(webhook, lease, values)

    def release(self, webhook_id: int, lease: str) -> None:
        """Give the lease back."""
        mine = (webhooks.c.id == webhook_id) & (webhooks.c.leased_by == lease)
        self._connection.execute(update(webhooks).where(mine).values(leased_by=None, leased_until=None))

    def pass_over(self, webhook: Webhook, cursor: int) -> None:
        """Move on over events that don't concern a webhook for which nobody sends."""
        same = (webhooks.c.id == webhook.id) & (webhooks.c.cursor == webhook.cursor) & webhooks.c.leased_by.is_(None)
        self._connection.execute(update(webhooks).where(same).values(cursor=cursor))

    def _held(self, webhook: Webhook, lease: str, values: dict[str, Any]) -> bool:
        same = (webhooks.c.id == webhook.id) & (webhooks.c.cursor == webhook.cursor) & (webhooks.c.leased_by == lease)
        return self._connection.execute(update(webhooks).where(same).values(values)).rowcount == 1


_ASKED_FOR = exists().where(
    deliveries.c.webhook_id == webhooks.c.id, deliveries.c.state == DeliveryState.REPLAYING.value
)
_FRESH = {"attempts": 0, "failed_since": None, "next_at": None, "error": None}


def _is_free(at: datetime) -> Any:
    newest = select(event_counter.c.value).scalar_subquery()
    return and_(
        webhooks.c.state == WebhookState.ACTIVE.value,
        or_(webhooks.c.next_at.is_(None), webhooks.c.next_at <= at),
        or_(webhooks.c.leased_until.is_(None), webhooks.c.leased_until < at),
        or_(webhooks.c.cursor < newest, _ASKED_FOR),
    )


def _webhooks() -> Select[Any]:
    return select(webhooks, namespaces.c.name.label("team")).join(
        namespaces, namespaces.c.id == webhooks.c.namespace_id
    )


def _record(row: Any) -> Webhook:
    return Webhook(
        id=row.id,
        uid=row.uid,
        team=row.team,
        url=row.url,
        description=row.description,
        kinds=None if row.kinds is None else tuple(row.kinds),
        adapters=None if row.adapters is None else tuple(row.adapters),
        state=WebhookState(row.state),
        cursor=row.cursor,
        attempts=row.attempts,
        failed_since=row.failed_since,
        next_at=row.next_at,
        error=row.error,
        actor=row.actor,
        created_at=row.created_at,
    )
