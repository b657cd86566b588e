"""Teams and tokens: operators, tokens, uploads in flight, answered requests; events become the audit log."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_teams_and_tokens"
down_revision = "2026_11_22_create_catalog"
branch_labels = None
depends_on = None

TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("principals", sa.Column("operator", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("events", sa.Column("actor", TEXT, nullable=True))
    op.add_column("events", sa.Column("chain", DIGEST, nullable=True))
    op.add_column("event_counter", sa.Column("chain", DIGEST, nullable=True))
    _create_tokens()
    _create_uploads()


def downgrade() -> None:
    for name in ("answered_requests", "uploads", "tokens"):
        op.drop_table(name)
    for table, column in (
        ("event_counter", "chain"),
        ("events", "chain"),
        ("events", "actor"),
        ("principals", "operator"),
    ):
        op.drop_column(table, column)


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("principal_id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("teams", sa.JSON(), nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("used_at", TIME, nullable=True),
        sa.Column("revoked_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name="fk_tokens_principal_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("sha256", name="uq_tokens_sha256"),
    )
    op.create_index("ix_tokens_principal_id", "tokens", ["principal_id"])


def _create_uploads() -> None:
    op.create_table(
        "uploads",
        sa.Column("id", KEY, nullable=False),
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.Column("part_size", ROW_ID, nullable=False),
        sa.Column("multipart", TEXT, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("completed_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_uploads_namespace_id"),
        sa.PrimaryKeyConstraint("id", name="pk_uploads"),
    )
    op.create_index("ix_uploads_namespace_id", "uploads", ["namespace_id"])
    op.create_table(
        "answered_requests",
        sa.Column("principal", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("request", DIGEST, nullable=False),
        sa.Column("answer", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("principal", "key", name="pk_answered_requests"),
    )
