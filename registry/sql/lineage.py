"""Lineage: every way in which a version's content arrived, its parents, and what was made of it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Select, bindparam, insert, select
from sqlalchemy.engine import Connection, Row, RowMapping

from registry.domain.errors import VersionNotFound
from registry.domain.records import Lineage, Parent, Provenance
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_absent, insert_all
from registry.sql.rows import adapter_id_of, is_version, version_id
from registry.sql.tables.lineage import lineage_edges, provenances, recipes
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions


class Lineages:
    """Queries on provenance, recipes and parents."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def record(self, name: AdapterName, number: int, provenance: Provenance) -> None:
        """Append a provenance to a version. A recipe that this adapter has keeps the version that it gave first.

        Raises VersionNotFound for the version or a parent.
        """
        child_id = version_id(self._connection, name, number)
        row = {
            "version_id": child_id,
            "commit": provenance.commit,
            "recipe_id": self._recipe(child_id, provenance),
            "actor": provenance.actor,
            "at": provenance.at,
        }
        result = self._connection.execute(insert(provenances), row)
        assert result.inserted_primary_key is not None
        provenance_id: int = result.inserted_primary_key[0]
        edges = [
            {
                "provenance_id": provenance_id,
                "position": position,
                "child_id": child_id,
                "parent_id": version_id(self._connection, parent.adapter, parent.version),
            }
            for position, parent in enumerate(provenance.parents)
        ]
        insert_all(self._connection, lineage_edges, edges)

    def version_of(self, name: AdapterName, recipe_digest: str) -> int | None:
        """The number of the version that a recipe gave first in this adapter."""
        statement = (
            select(versions.c.number)
            .join(recipes, recipes.c.version_id == versions.c.id)
            .where(recipes.c.adapter_id == adapter_id_of(name), recipes.c.digest == recipe_digest)
        )
        return self._connection.scalar(statement)

    def of(self, name: AdapterName, number: int) -> Lineage:
        """Provenance, oldest first, with parents, and direct descendants. Raises VersionNotFound."""
        statement = select(versions.c.id, versions.c.digest).where(is_version(name, number))
        row = self._connection.execute(statement).first()
        if row is None:
            raise VersionNotFound(str(name), f"version v{number}")
        return Lineage(name, number, row.digest, self._provenance(row.id), self._descendants(row.id))

    def parents(self, name: AdapterName, number: int) -> tuple[Parent, ...]:
        """What a version was made of, each once: for look-ups, in one statement that is built once."""
        rows = self._connection.execute(_parents_of(), {"adapter": name.key, "number": number})
        return tuple(dict.fromkeys(_parent(row) for row in rows))

    def _recipe(self, child_id: int, provenance: Provenance) -> int | None:
        if provenance.recipe_digest is None:
            return None
        owner = self._connection.scalar(select(versions.c.adapter_id).where(versions.c.id == child_id))
        row = {
            "adapter_id": owner,
            "digest": provenance.recipe_digest,
            "version_id": child_id,
            "recipe": provenance.recipe or {},
        }
        insert_absent(self._connection, recipes, [row])
        statement = select(recipes.c.id)
        return self._connection.scalar(
            statement.where(recipes.c.adapter_id == owner, recipes.c.digest == provenance.recipe_digest)
        )

    def _provenance(self, child_id: int) -> tuple[Provenance, ...]:
        statement = (
            select(provenances, recipes.c.digest.label("recipe_digest"), recipes.c.recipe)
            .outerjoin(recipes, recipes.c.id == provenances.c.recipe_id)
            .where(provenances.c.version_id == child_id)
            .order_by(provenances.c.id)
        )
        rows = self._connection.execute(statement).mappings().all()
        parents = self._parents([row["id"] for row in rows])
        return tuple(_record(row, parents.get(row["id"], ())) for row in rows)

    def _parents(self, ids: Sequence[int]) -> dict[int, list[Parent]]:
        statement = (
            _named(lineage_edges.c.provenance_id)
            .join(lineage_edges, lineage_edges.c.parent_id == versions.c.id)
            .where(lineage_edges.c.provenance_id.in_(ids))
            .order_by(lineage_edges.c.provenance_id, lineage_edges.c.position)
        )
        found: dict[int, list[Parent]] = {}
        for row in self._connection.execute(statement):
            found.setdefault(row.provenance_id, []).append(_parent(row))
        return found

    def _descendants(self, parent_id: int) -> tuple[Parent, ...]:
        children = select(lineage_edges.c.child_id).where(lineage_edges.c.parent_id == parent_id)
        statement = _named().where(versions.c.id.in_(children)).order_by(versions.c.id)
        return tuple(_parent(row) for row in self._connection.execute(statement))


@cache
def _parents_of() -> Select[Any]:
    adapter = select(adapters.c.id).where(adapters.c.name_key == bindparam("adapter")).scalar_subquery()
    child = select(versions.c.id).where(versions.c.adapter_id == adapter, versions.c.number == bindparam("number"))
    return (
        _named()
        .join(lineage_edges, lineage_edges.c.parent_id == versions.c.id)
        .join(provenances, provenances.c.id == lineage_edges.c.provenance_id)
        .where(provenances.c.version_id == child.scalar_subquery())
        .order_by(lineage_edges.c.provenance_id, lineage_edges.c.position)
    )


def _named(*columns: Any) -> Select[Any]:
    """Versions by name, number and digest."""
    return (
        select(
            namespaces.c.name.label("team"),
            adapters.c.name.label("adapter"),
            versions.c.number,
            versions.c.digest,
            *columns,
        )
        .select_from(versions)
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
    )


def _parent(row: Row[Any]) -> Parent:
    return Parent(AdapterName(row.team, row.adapter), row.number, row.digest)


def _record(row: RowMapping, parents: Sequence[Parent]) -> Provenance:
    return Provenance(
        commit=row["commit"],
        actor=row["actor"],
        at=row["at"],
        recipe_digest=row["recipe_digest"],
        recipe=row["recipe"],
        parents=tuple(parents),
    )
