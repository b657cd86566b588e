"""What Alembic runs: the connection comes from `registry.sql.schema`, which holds the lock and the transaction."""

from alembic import context

from registry.sql.tables.everything import metadata


def run() -> None:
    """Run the migrations that were asked for on the connection that we are given."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata(),
        render_as_batch=True,
        transactional_ddl=True,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
