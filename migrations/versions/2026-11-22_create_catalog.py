"""Create the catalog: names, commits, versions, aliases, bases, lineage, evaluations, events."""

import sqlalchemy as sa
from alembic import op

revision = "2026_11_22_create_catalog"
down_revision = None
branch_labels = None
depends_on = None

# Types as they were on that day: a migration must not change when the program does.
TEXT = sa.String()
KEY = sa.String().with_variant(sa.String(collation="C"), "postgresql")
DIGEST = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
COMMIT = sa.String(40).with_variant(sa.String(40, collation="C"), "postgresql")
ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.DateTime(timezone=True)

TABLES = (
    "namespaces",
    "principals",
    "memberships",
    "adapters",
    "commits",
    "blobs",
    "commit_files",
    "blob_possessions",
    "versions",
    "version_modules",
    "version_targets",
    "version_words",
    "version_bases",
    "aliases",
    "alias_stack",
    "alias_moves",
    "base_models",
    "base_names",
    "recipes",
    "provenances",
    "lineage_edges",
    "evaluations",
    "evaluation_metrics",
    "version_metrics",
    "events",
    "event_counter",
)


def upgrade() -> None:
    _create_names()
    _create_commits()
    _create_versions()
    _create_aliases()
    _create_bases()
    _create_lineage()
    _create_events()


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)


def _create_names() -> None:
    op.create_table(
        "namespaces",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("visibility", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_namespaces"),
        sa.UniqueConstraint("name_key", name="uq_namespaces_name_key"),
    )
    op.create_table(
        "principals",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_principals"),
        sa.UniqueConstraint("name_key", name="uq_principals_name_key"),
    )
    op.create_table(
        "memberships",
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("principal_id", ROW_ID, nullable=False),
        sa.Column("role", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_memberships_namespace_id"),
        sa.ForeignKeyConstraint(["principal_id"], ["principals.id"], name="fk_memberships_principal_id"),
        sa.PrimaryKeyConstraint("namespace_id", "principal_id", name="pk_memberships"),
    )
    op.create_index("ix_memberships_principal_id", "memberships", ["principal_id"])
    op.create_table(
        "adapters",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("head", COMMIT, nullable=True),
        sa.Column("last_number", ROW_ID, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_adapters_namespace_id"),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
        sa.UniqueConstraint("name_key", name="uq_adapters_name_key"),
    )
    op.create_index("ix_adapters_namespace_id", "adapters", ["namespace_id"])


def _create_commits() -> None:
    op.create_table(
        "commits",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("hash", COMMIT, nullable=False),
        sa.Column("parent", COMMIT, nullable=True),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("number", ROW_ID, nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_commits_adapter_id"),
        sa.PrimaryKeyConstraint("id", name="pk_commits"),
        sa.UniqueConstraint("adapter_id", "hash", name="uq_commits_adapter_id_hash"),
    )
    op.create_table(
        "blobs",
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
    )
    op.create_table(
        "commit_files",
        sa.Column("commit_id", ROW_ID, nullable=False),
        sa.Column("path", KEY, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["commit_id"], ["commits.id"], name="fk_commit_files_commit_id"),
        sa.ForeignKeyConstraint(
            ["sha256"], ["blobs.sha256"], name="fk_commit_files_sha256", initially="DEFERRED", deferrable=True
        ),
        sa.PrimaryKeyConstraint("commit_id", "path", name="pk_commit_files"),
    )
    op.create_index("ix_commit_files_sha256", "commit_files", ["sha256"])
    op.create_table(
        "blob_possessions",
        sa.Column("namespace_id", ROW_ID, nullable=False),
        sa.Column("sha256", DIGEST, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["namespace_id"], ["namespaces.id"], name="fk_blob_possessions_namespace_id"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_blob_possessions_sha256"),
        sa.PrimaryKeyConstraint("namespace_id", "sha256", name="pk_blob_possessions"),
    )
    op.create_index("ix_blob_possessions_sha256", "blob_possessions", ["sha256"])


def _create_versions() -> None:
    op.create_table(
        "versions",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("number", ROW_ID, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("commit", COMMIT, nullable=False),
        sa.Column("main_position", ROW_ID, nullable=True),
        sa.Column("status", TEXT, nullable=False),
        sa.Column("status_reason", TEXT, nullable=True),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("peft_type", TEXT, nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("alpha", sa.Double(), nullable=False),
        sa.Column("dtype", TEXT, nullable=False),
        sa.Column("parameters", ROW_ID, nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("base_key", KEY, nullable=True),
        sa.Column("base_name", TEXT, nullable=True),
        sa.Column("base_fingerprint", DIGEST, nullable=True),
        sa.Column("base_evidence", TEXT, nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.Column("author", TEXT, nullable=False),
        sa.Column("message", TEXT, nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id", "commit"],
            ["commits.adapter_id", "commits.hash"],
            name="fk_versions_adapter_id_commit",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_versions_adapter_id"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("adapter_id", "digest", name="uq_versions_adapter_id_digest"),
        sa.UniqueConstraint("adapter_id", "number", name="uq_versions_adapter_id_number"),
    )
    op.create_index(
        "ix_versions_adapter_id_status_main_position", "versions", ["adapter_id", "status", "main_position"]
    )
    op.create_index("ix_versions_base_key_id", "versions", ["base_key", "id"])
    op.create_index("ix_versions_rank_id", "versions", ["rank", "id"])
    op.create_index("ix_versions_status_id", "versions", ["status", "id"])
    op.create_table(
        "version_modules",
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("modules", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_modules_version_id"),
        sa.PrimaryKeyConstraint("version_id", name="pk_version_modules"),
    )
    op.create_table(
        "version_targets",
        sa.Column("target", KEY, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_targets_version_id"),
        sa.PrimaryKeyConstraint("target", "version_id", name="pk_version_targets"),
    )
    op.create_index("ix_version_targets_version_id", "version_targets", ["version_id"])
    op.create_table(
        "version_words",
        sa.Column("word", KEY, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_words_version_id"),
        sa.PrimaryKeyConstraint("word", "version_id", name="pk_version_words"),
    )
    op.create_index("ix_version_words_version_id", "version_words", ["version_id"])
    op.create_table(
        "version_bases",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=True),
        sa.Column("fingerprint", DIGEST, nullable=True),
        sa.Column("evidence", TEXT, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_bases_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_version_bases"),
    )
    op.create_index("ix_version_bases_version_id", "version_bases", ["version_id"])


def _create_aliases() -> None:
    op.create_table(
        "aliases",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("number", ROW_ID, nullable=True),
        sa.Column("seq", ROW_ID, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id", "number"], ["versions.adapter_id", "versions.number"], name="fk_aliases_adapter_id_number"
        ),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_aliases_adapter_id"),
        sa.PrimaryKeyConstraint("id", name="pk_aliases"),
        sa.UniqueConstraint("adapter_id", "name_key", name="uq_aliases_adapter_id_name_key"),
    )
    op.create_index("ix_aliases_adapter_id_number", "aliases", ["adapter_id", "number"])
    op.create_table(
        "alias_stack",
        sa.Column("alias_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["alias_id"], ["aliases.id"], name="fk_alias_stack_alias_id"),
        sa.PrimaryKeyConstraint("alias_id", "position", name="pk_alias_stack"),
    )
    op.create_table(
        "alias_moves",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("alias_id", ROW_ID, nullable=False),
        sa.Column("seq", ROW_ID, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("before", ROW_ID, nullable=True),
        sa.Column("after", ROW_ID, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("reason", TEXT, nullable=True),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_alias_moves_adapter_id"),
        sa.ForeignKeyConstraint(["alias_id"], ["aliases.id"], name="fk_alias_moves_alias_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
        sa.UniqueConstraint("alias_id", "seq", name="uq_alias_moves_alias_id_seq"),
    )
    op.create_index("ix_alias_moves_adapter_id_id", "alias_moves", ["adapter_id", "id"])


def _create_bases() -> None:
    op.create_table(
        "base_models",
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("format", TEXT, nullable=False),
        sa.Column("model_type", TEXT, nullable=True),
        sa.Column("tensors", sa.Integer(), nullable=False),
        sa.Column("parameters", ROW_ID, nullable=False),
        sa.Column("size", ROW_ID, nullable=False),
        sa.Column("quantised_of", DIGEST, nullable=True),
        sa.Column("succeeds", DIGEST, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("tensor_index", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["quantised_of"], ["base_models.fingerprint"], name="fk_base_models_quantised_of"),
        sa.ForeignKeyConstraint(["succeeds"], ["base_models.fingerprint"], name="fk_base_models_succeeds"),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_base_models"),
    )
    op.create_table(
        "base_names",
        sa.Column("name_key", KEY, nullable=False),
        sa.Column("name", TEXT, nullable=False),
        sa.Column("fingerprint", DIGEST, nullable=False),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["fingerprint"], ["base_models.fingerprint"], name="fk_base_names_fingerprint"),
        sa.PrimaryKeyConstraint("name_key", name="pk_base_names"),
    )
    op.create_index("ix_base_names_fingerprint", "base_names", ["fingerprint"])


def _create_lineage() -> None:
    op.create_table(
        "recipes",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("adapter_id", ROW_ID, nullable=False),
        sa.Column("digest", DIGEST, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_recipes_adapter_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_recipes_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_recipes"),
        sa.UniqueConstraint("adapter_id", "digest", name="uq_recipes_adapter_id_digest"),
    )
    op.create_table(
        "provenances",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("commit", COMMIT, nullable=False),
        sa.Column("recipe_id", ROW_ID, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["recipe_id"], ["recipes.id"], name="fk_provenances_recipe_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_provenances_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_provenances"),
    )
    op.create_index("ix_provenances_version_id", "provenances", ["version_id"])
    op.create_table(
        "lineage_edges",
        sa.Column("provenance_id", ROW_ID, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("child_id", ROW_ID, nullable=False),
        sa.Column("parent_id", ROW_ID, nullable=False),
        sa.ForeignKeyConstraint(["child_id"], ["versions.id"], name="fk_lineage_edges_child_id"),
        sa.ForeignKeyConstraint(["parent_id"], ["versions.id"], name="fk_lineage_edges_parent_id"),
        sa.ForeignKeyConstraint(["provenance_id"], ["provenances.id"], name="fk_lineage_edges_provenance_id"),
        sa.PrimaryKeyConstraint("provenance_id", "position", name="pk_lineage_edges"),
    )
    op.create_index("ix_lineage_edges_parent_id_child_id", "lineage_edges", ["parent_id", "child_id"])
    op.create_table(
        "evaluations",
        sa.Column("id", ROW_ID, nullable=False),
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("dataset", TEXT, nullable=True),
        sa.Column("dataset_sha256", DIGEST, nullable=True),
        sa.Column("actor", TEXT, nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_evaluations_version_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_version_id", "evaluations", ["version_id"])
    op.create_table(
        "evaluation_metrics",
        sa.Column("evaluation_id", ROW_ID, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="fk_evaluation_metrics_evaluation_id"),
        sa.PrimaryKeyConstraint("evaluation_id", "name", name="pk_evaluation_metrics"),
    )
    op.create_table(
        "version_metrics",
        sa.Column("version_id", ROW_ID, nullable=False),
        sa.Column("name", KEY, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_metrics_version_id"),
        sa.PrimaryKeyConstraint("version_id", "name", name="pk_version_metrics"),
    )
    op.create_index("ix_version_metrics_name_value_version_id", "version_metrics", ["name", "value", "version_id"])


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("cursor", ROW_ID, autoincrement=False, nullable=False),
        sa.Column("kind", TEXT, nullable=False),
        sa.Column("adapter", TEXT, nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("cursor", name="pk_events"),
    )
    op.create_table(
        "event_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", ROW_ID, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_event_counter_one_row")),
        sa.PrimaryKeyConstraint("id", name="pk_event_counter"),
    )
    op.execute("INSERT INTO event_counter (id, value) VALUES (1, 0)")
