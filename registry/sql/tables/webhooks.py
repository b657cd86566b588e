"""Webhooks, what became of their messages, and when periodic tasks were last done."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from registry.sql.tables.base import Key, Row, RowId, UtcDateTime, table


class WebhookRow(Row):
    """Where a team's events are sent. `cursor` is the last event that is done with.

    `attempts`, `failed_since`, `next_at` and `error` are about the message at the head of the line. Whoever sends has
    the lease, and writes nothing without it. Secrets: see `registry.domain.webhook_secrets`.
    """

    __tablename__ = "webhooks"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    uid: Mapped[str] = mapped_column(Key, unique=True)
    namespace_id: Mapped[int] = mapped_column(ForeignKey("namespaces.id"), index=True)
    url: Mapped[str]
    description: Mapped[str]
    kinds: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    adapters: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    secret: Mapped[str]
    former_secret: Mapped[str | None]
    former_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state: Mapped[str]
    cursor: Mapped[int] = mapped_column(RowId)
    attempts: Mapped[int]
    failed_since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    next_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None]
    leased_by: Mapped[str | None]
    leased_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    actor: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DeliveryRow(Row):
    """What became of an event's message to a webhook; `status` is the last answer's, if there was one."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "webhook_id", "state"),)

    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id"), primary_key=True)
    cursor: Mapped[int] = mapped_column(RowId, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    adapter: Mapped[str | None]
    state: Mapped[str]
    attempts: Mapped[int]
    status: Mapped[int | None]
    error: Mapped[str | None]
    milliseconds: Mapped[int | None]
    first_at: Mapped[datetime] = mapped_column(UtcDateTime)
    last_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class UpkeepRow(Row):
    """When a periodic task was last taken on, by whichever server did it."""

    __tablename__ = "upkeep"

    task: Mapped[str] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


webhooks = table(WebhookRow)
deliveries = table(DeliveryRow)
upkeep = table(UpkeepRow)
