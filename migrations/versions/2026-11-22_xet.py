"""Xorbs, and where their chunks are."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_xet"
down_revision = "2026_11_22_tags"
branch_labels = None
depends_on = None

DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "xorb_caches",
        sa.Column("namespace_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("epoch", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_xorb_caches_namespace_id"),
        sa.PrimaryKeyConstraint("namespace_id", name="pk_xorb_caches"),
    )
    op.create_table(
        "xorbs",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("name", DIGEST, nullable=False),
        sa.Column("ends", sa.LargeBinary(), nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.Column("staged", KEY, nullable=True),
        sa.Column("seen_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_xorbs_namespace_id"),
        sa.PrimaryKeyConstraint("id", name="pk_xorbs"),
        sa.UniqueConstraint("namespace_id", "name", name="uq_xorbs_namespace_id_name"),
    )
    op.create_index("ix_xorbs_seen_at", "xorbs", ["seen_at"])
    op.create_table(
        "xorb_spans",
        sa.Column("xorb_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("first", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("end", ROW_ID, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("start", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_xorb_spans_sha256"),
        sa.ForeignKeyConstraint(["xorb_id"], ["xorbs.id"], name="fk_xorb_spans_xorb_id"),
        sa.PrimaryKeyConstraint("xorb_id", "first", name="pk_xorb_spans"),
    )
    op.create_index("ix_xorb_spans_sha256", "xorb_spans", ["sha256"])


def downgrade() -> None:
    for name in ("xorb_spans", "xorbs", "xorb_caches"):
        op.drop_table(name)
