"""Commits that hold a base model."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_base_commits"
down_revision = "2026_11_22_transfers"
branch_labels = None
depends_on = None

DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("commits", sa.Column("base_fingerprint", DIGEST, nullable=True))
    op.create_index("ix_commits_base_fingerprint", "commits", ["base_fingerprint"])


def downgrade() -> None:
    op.drop_index("ix_commits_base_fingerprint", table_name="commits")
    op.drop_column("commits", "base_fingerprint")
