"""Gates before aliases, and approvals."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_gates"
down_revision = "2026_11_22_teams_and_tokens"
branch_labels = None
depends_on = None

TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "gates",
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("alias_key", KEY, nullable=False),
        sa.Column("alias", TEXT, nullable=False),
        sa.Column("requirements", sa.JSON(), nullable=False),
        sa.Column("approvals", sa.Integer(), nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_gates_adapter_id"),
        sa.PrimaryKeyConstraint("adapter_id", "alias_key", name="pk_gates"),
    )
    op.create_table(
        "approvals",
        sa.Column("adapter_id", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("number", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("alias_key", KEY, nullable=False),
        sa.Column("principal_key", KEY, nullable=False),
        sa.Column("principal", TEXT, nullable=False),
        sa.Column("comment", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id", "number"], ["versions.adapter_id", "versions.number"], name="fk_approvals_adapter_id"
        ),
        sa.PrimaryKeyConstraint("adapter_id", "number", "alias_key", "principal_key", name="pk_approvals"),
    )


def downgrade() -> None:
    op.drop_table("approvals")
    op.drop_table("gates")
