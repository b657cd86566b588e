"""Webhooks and their deliveries, quotas, periodic tasks; what an adapter is described by, and its tombstone."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_webhooks"
down_revision = "2026_11_22_jobs"
branch_labels = None
depends_on = None

TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("adapters", sa.Column("description", TEXT, nullable=True))
    op.add_column("adapters", sa.Column("metadata", sa.JSON(), nullable=True))
    op.add_column("adapters", sa.Column("deleted_at", TIME, nullable=True))
    _create_webhooks()
    _create_deliveries()
    _create_quotas()


def downgrade() -> None:
    for name in ("quotas", "upkeep", "webhook_deliveries", "webhooks"):
        op.drop_table(name)
    for column in ("deleted_at", "metadata", "description"):
        op.drop_column("adapters", column)


def _create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("uid", KEY, nullable=False),
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("url", TEXT, nullable=False),
        sa.Column("description", TEXT, nullable=False),
        sa.Column("kinds", sa.JSON(), nullable=True),
        sa.Column("adapters", sa.JSON(), nullable=True),
        sa.Column("secret", TEXT, nullable=False),
        sa.Column("former_secret", TEXT, nullable=True),
        sa.Column("former_until", TIME, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("cursor", ROW_ID, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_since", TIME, nullable=True),
        sa.Column("next_at", TIME, nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("leased_by", TEXT, nullable=True),
        sa.Column("leased_until", TIME, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_webhooks_namespace_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
        sa.UniqueConstraint("uid", name="uq_webhooks_uid"),
        sqlite_autoincrement=True,  # a number is never given twice
    )
    op.create_index("ix_webhooks_namespace_id", "webhooks", ["namespace_id"])


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        sa.Column("webhook_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("cursor", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("adapter", TEXT, nullable=True),
        sa.Column("state", TEXT, nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", TEXT, nullable=True),
        sa.Column("milliseconds", sa.Integer(), nullable=True),
        sa.Column("first_at", TIME, nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_webhook_deliveries_webhook_id"),
        sa.PrimaryKeyConstraint("webhook_id", "cursor", name="pk_webhook_deliveries"),
    )
    op.create_index("ix_webhook_deliveries_webhook_id_state", "webhook_deliveries", ["webhook_id", "state"])
    op.create_index("ix_webhook_deliveries_last_at", "webhook_deliveries", ["last_at"])


def _create_quotas() -> None:
    op.create_table(
        "quotas",
        sa.Column("namespace_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("bytes", ROW_ID, nullable=True),
        sa.Column("versions", ROW_ID, nullable=True),
        sa.Column("adapters", ROW_ID, nullable=True),
        sa.Column("uploads", ROW_ID, nullable=True),
        sa.Column("kept", ROW_ID, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_quotas_namespace_id"),
        sa.PrimaryKeyConstraint("namespace_id", name="pk_quotas"),
    )
    op.create_table(
        "upkeep",
        sa.Column("task", KEY, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("task", name="pk_upkeep"),
    )
