"""The only place that wires settings, store, database and service together."""

from collections.abc import Mapping

from registry.blobs.locate import open_store
from registry.service import Registry
from registry.settings import Settings
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema


def open_registry(environment: Mapping[str, str]) -> Registry:
    """Open the registry that the environment names; an embedded one is created and migrated on the way.

    Raises InvalidSetting, SchemaMismatch, DatabaseFailure.
    """
    settings = Settings.from_environment(environment)
    database = Database(settings.database_url)
    ensure_schema(database, migrate=settings.embedded)
    return Registry(database, open_store(settings.blobs_url))
