"""Tags in the catalog. Names are found in any case and answered in their stored spelling."""

import builtins
from typing import Any

from sqlalchemy import Select, delete, select
from sqlalchemy.engine import Connection

from registry.domain.records import Tag
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_absent
from registry.sql.rows import adapter_id, adapter_id_of
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.tags import tags


class Tags:
    """Queries on tags."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, tag: Tag) -> bool:
        """Add a tag; False if there is one of that name. Raises AdapterNotFound."""
        row = {
            "adapter_id": adapter_id(self._connection, tag.adapter),
            "name_key": tag.name.lower(),
            "name": tag.name,
            "commit": tag.commit,
            "message": tag.message,
            "actor": tag.actor,
            "at": tag.at,
        }
        return bool(insert_absent(self._connection, tags, [row]))

    def find(self, name: AdapterName, tag: str) -> Tag | None:
        """The tag of that name."""
        row = self._connection.execute(_tags(name).where(tags.c.name_key == tag.lower())).first()
        return None if row is None else _record(row)

    def list(self, name: AdapterName) -> builtins.list[Tag]:
        """An adapter's tags by name."""
        return [_record(row) for row in self._connection.execute(_tags(name).order_by(tags.c.name_key))]

    def delete(self, name: AdapterName, tag: str) -> None:
        """Forget a tag."""
        self._connection.execute(delete(tags).where(_of(name), tags.c.name_key == tag.lower()))

    def delete_all(self, name: AdapterName) -> None:
        """Forget an adapter's tags."""
        self._connection.execute(delete(tags).where(_of(name)))


def _of(name: AdapterName) -> Any:
    return tags.c.adapter_id == adapter_id_of(name)


def _tags(name: AdapterName) -> Select[Any]:
    return (
        select(tags, namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
        .join(adapters, adapters.c.id == tags.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .where(_of(name))
    )


def _record(row: Any) -> Tag:
    return Tag(AdapterName(row.team, row.adapter), row.name, row.commit, row.message, row.actor, row.at)
