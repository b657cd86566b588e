"""Tags: notes on commits."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_tags"
down_revision = "2026_11_22_base_commits"
branch_labels = None
depends_on = None

TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
COMMIT = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "tags",
        sa.Column("adapter_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("commit", COMMIT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id", "commit"], ["commits.adapter_id", "commits.hash"], name="fk_tags_adapter_id_commit"
        ),
        sa.PrimaryKeyConstraint("adapter_id", "name_key", name="pk_tags"),
    )


def downgrade() -> None:
    op.drop_table("tags")
