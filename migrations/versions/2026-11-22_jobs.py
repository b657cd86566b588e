"""Jobs: what is asked for now and done later."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_jobs"
down_revision = "2026_11_22_gates"
branch_labels = None
depends_on = None

TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
COMMIT = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", KEY, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("live_key", DIGEST, nullable=True),
        sa.Column("requester", TEXT, nullable=False),
        sa.Column("token_id", ROW_ID, nullable=True),
        sa.Column("team_key", KEY, nullable=True),
        sa.Column("target", TEXT, nullable=True),
        sa.Column("recipe_digest", DIGEST, nullable=True),
        sa.Column("title", TEXT, nullable=False),
        sa.Column("order", sa.JSON(), nullable=False),
        sa.Column("what", TEXT, nullable=False),
        sa.Column("done", ROW_ID, nullable=False),
        sa.Column("of", ROW_ID, nullable=False),
        sa.Column("cancelling", sa.Boolean(), nullable=False),
        sa.Column("version", ROW_ID, nullable=True),
        sa.Column("commit", COMMIT, nullable=True),
        sa.Column("created", sa.Boolean(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("slot", TEXT, nullable=True),
        sa.Column("claim", TEXT, nullable=True),
        sa.Column("lease_until", TIME, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("ended_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_jobs_token_id"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("live_key", name="uq_jobs_live_key"),
    )
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_index("ix_jobs_team_key_id", "jobs", ["team_key", "id"])


def downgrade() -> None:
    op.drop_table("jobs")
