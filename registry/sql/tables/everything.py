"""All tables at once, for migrations and their comparison. Look-ups import only the modules that they read."""

from sqlalchemy import MetaData

from registry.sql.tables import (
    alias_moves,
    aliases,
    bases,
    blobs,
    commits,
    evaluations,
    events,
    gates,
    jobs,
    lineage,
    names,
    principals,
    quotas,
    tags,
    uploads,
    version_parts,
    versions,
    webhooks,
    xorbs,
)
from registry.sql.tables.base import Row

NOUNS = (
    names,
    principals,
    commits,
    blobs,
    versions,
    version_parts,
    aliases,
    alias_moves,
    bases,
    lineage,
    evaluations,
    events,
    uploads,
    gates,
    jobs,
    webhooks,
    quotas,
    xorbs,
    tags,
)


def metadata() -> MetaData:
    """The metadata with every table in it."""
    return Row.metadata
