"""The condition that keeps what a caller may not see out of listings."""

from typing import Any

from sqlalchemy import Select, or_, select

from registry.domain.rights import Readable
from registry.sql.tables.names import namespaces

PUBLIC = "public"
PRIVATE = "private"


def namespaces_of(readable: Readable) -> Select[Any]:
    """The ids of the namespaces that may be seen, as a subquery."""
    own = namespaces.c.name_key.in_(sorted(readable.teams))
    seen = or_(own, namespaces.c.visibility == PUBLIC) if readable.public else own
    return select(namespaces.c.id).where(seen)
