"""What became of messages to webhooks; and when periodic tasks were taken on."""

from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.records import Event, Page
from registry.domain.webhooks import Delivery, DeliveryState, Outcome, Webhook
from registry.sql.inserts import insert_absent
from registry.sql.tables.webhooks import deliveries, upkeep
from registry.sql.versions import number_of


class Deliveries:
    """Queries on deliveries: one row a message, its newest attempt."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def note(self, webhook: Webhook, event: Event, state: DeliveryState, outcome: Outcome, *, at: datetime) -> None:
        """Write down an attempt."""
        values = {
            "state": state.value,
            "status": outcome.status,
            "error": outcome.error,
            "milliseconds": outcome.milliseconds,
            "last_at": at,
        }
        again = {**values, "attempts": deliveries.c.attempts + 1}
        if self._connection.execute(update(deliveries).where(_is(webhook, event.cursor)).values(again)).rowcount:
            return
        row = {
            "webhook_id": webhook.id,
            "cursor": event.cursor,
            "kind": event.kind,
            "adapter": str(event.adapter) if event.adapter else None,
            "attempts": 1,
            "first_at": at,
        }
        self._connection.execute(insert(deliveries), {**row, **values})

    def list(self, webhook: Webhook, *, cursor: str | None = None, limit: int = 100) -> Page[Delivery]:
        """A page of a webhook's deliveries, newest event first."""
        statement = _of(webhook).order_by(deliveries.c.cursor.desc()).limit(limit + 1)
        if cursor is not None:
            statement = statement.where(deliveries.c.cursor < number_of(cursor))
        rows = self._connection.execute(statement).all()
        following = str(rows[limit - 1].cursor) if len(rows) > limit else None
        return Page(tuple(_record(webhook, row) for row in rows[:limit]), following)

    def replay(self, webhook: Webhook, cursor: int) -> bool:
        """Ask for a message again; False if none of that event was sent, or it is forgotten."""
        asked = update(deliveries).where(_is(webhook, cursor)).values(state=DeliveryState.REPLAYING.value)
        return self._connection.execute(asked).rowcount == 1

    def asked_for(self, webhook: Webhook) -> int | None:
        """The event of the oldest message that is asked for again."""
        statement = _of(webhook).where(deliveries.c.state == DeliveryState.REPLAYING.value)
        row = self._connection.execute(statement.order_by(deliveries.c.cursor).limit(1)).first()
        return None if row is None else int(row.cursor)

    def forget_before(self, moment: datetime) -> int:
        """Forget the messages that are done with since before a moment; how many there were."""
        over = deliveries.c.state.in_([DeliveryState.DELIVERED.value, DeliveryState.GIVEN_UP.value])
        return self._connection.execute(delete(deliveries).where(over, deliveries.c.last_at < moment)).rowcount


class Upkeep:
    """Queries on periodic tasks."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def last(self) -> dict[str, datetime]:
        """When each task was last taken on."""
        return {row.task: row.at for row in self._connection.execute(select(upkeep))}

    def take(self, task: str, *, before: datetime, at: datetime) -> bool:
        """Take a task on that nobody took on since `before`; False if somebody did."""
        if insert_absent(self._connection, upkeep, [{"task": task, "at": at}]):
            return True
        due = (upkeep.c.task == task) & (upkeep.c.at < before)
        return self._connection.execute(update(upkeep).where(due).values(at=at)).rowcount == 1


def _is(webhook: Webhook, cursor: int) -> Any:
    return (deliveries.c.webhook_id == webhook.id) & (deliveries.c.cursor == cursor)


def _of(webhook: Webhook) -> Select[Any]:
    return select(deliveries).where(deliveries.c.webhook_id == webhook.id)


def _record(webhook: Webhook, row: Any) -> Delivery:
    return Delivery(
        id=webhook.message_id(row.cursor),
        webhook=webhook.id,
        cursor=row.cursor,
        kind=row.kind,
        adapter=row.adapter,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        status=row.status,
        error=row.error,
        milliseconds=row.milliseconds,
        first_at=row.first_at,
        last_at=row.last_at,
    )
