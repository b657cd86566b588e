"""The only place that wires settings, store, database and service together."""

from collections.abc import Mapping

from registry.blobs.locate import open_store
from registry.service import Registry
from registry.settings import Settings
from registry.sql.engine import Database
from registry.sql.schema import current, ensure_schema


def open_registry(environment: Mapping[str, str]) -> Registry:
    """Open the registry that the environment names; an embedded one is created and migrated on the way.

    Raises InvalidSetting, SchemaMismatch, DatabaseFailure.
    """
    settings = Settings.from_environment(environment)
    store = open_store(settings.blobs_url)
    database = Database(settings.database_url)
    try:
        ensure_schema(database, migrate=settings.embedded)
    except BaseException:
        database.close()
        raise
    return Registry(database, store, webhook_targets=settings.webhook_targets, secret=settings.secret)


def migrate_registry(environment: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Bring the database that the environment names to this program's schema; returns its revision before and after.

    Raises InvalidSetting, SchemaMismatch, DatabaseFailure.
    """
    database = Database(Settings.from_environment(environment).database_url)
    try:
        before = current(database)
        ensure_schema(database, migrate=True)
        return before, current(database)
    finally:
        database.close()
