"""All tables at once, for migrations and their comparison. Look-ups import only the modules that they read."""

from sqlalchemy import MetaData

from registry.sql.tables import aliases, bases, commits, events, lineage, names, versions
from registry.sql.tables.base import Row

MODULES = (names, commits, versions, aliases, bases, lineage, events)


def metadata() -> MetaData:
    """The metadata with every table in it."""
    return Row.metadata
