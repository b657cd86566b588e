"""Blobs that nobody refers to, that are gone, and that are damaged."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_collection"
down_revision = "2026_11_22_xet"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for name in ("idle_since", "removed_at", "checked_at"):
        op.add_column("blobs", sa.Column(name, TIME, nullable=True))
        op.create_index(f"ix_blobs_{name}", "blobs", [name])
    op.add_column("blobs", sa.Column("damage", sa.String(), nullable=True))
    op.add_column("versions", sa.Column("damage", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("versions", "damage")
    op.drop_column("blobs", "damage")
    for name in ("checked_at", "removed_at", "idle_since"):
        op.drop_index(f"ix_blobs_{name}", table_name="blobs")
        op.drop_column("blobs", name)
