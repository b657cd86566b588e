"""Uploads that are being verified, and results of single examples."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_transfers"
down_revision = "2026_11_22_webhooks"
branch_labels = None
depends_on = None

DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
BYTES = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("uploads", sa.Column("verifying_until", TIME, nullable=True))
    op.add_column("uploads", sa.Column("verified", BYTES, nullable=True))
    op.add_column("uploads", sa.Column("failure", sa.JSON(), nullable=True))
    op.add_column("evaluations", sa.Column("examples_sha256", DIGEST, nullable=True))
    op.add_column("evaluations", sa.Column("examples_size", BYTES, nullable=True))
    op.add_column("evaluations", sa.Column("examples_count", sa.Integer(), nullable=True))
    op.create_index("ix_evaluations_examples_sha256", "evaluations", ["examples_sha256"])


def downgrade() -> None:
    op.drop_index("ix_evaluations_examples_sha256", table_name="evaluations")
    for column in ("examples_count", "examples_size", "examples_sha256"):
        op.drop_column("evaluations", column)
    for column in ("failure", "verified", "verifying_until"):
        op.drop_column("uploads", column)
