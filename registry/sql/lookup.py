"""Look-ups by reference: the hot path. One statement for the version, one for its files, whatever the catalog's size.

Each statement begins with the adapter's id as a scalar subquery, so that both databases walk one index in order and
stop at the first row. Statements are built once per process.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from sqlalchemy import Select, and_, bindparam, select
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import InvalidReference
from registry.domain.records import Alias, Status, Version
from registry.domain.reference import AdapterName, Reference, Selector
from registry.sql.rows import files_of, version_record
from registry.sql.tables.aliases import aliases
from registry.sql.tables.commits import commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions


def find_version(connection: Connection, reference: Reference) -> Version | None:
    """The version that a reference means, with its files; None if there is none.

    Main and a commit answer with that commit and its files, the others with the version's first commit. Raises
    InvalidReference when a digest's digits fit several versions.
    """
    row = _find_row(connection, reference)
    if row is None:
        return None
    return version_record(row, files_of(connection, row["commit_id"]))


def find_alias(connection: Connection, reference: Reference) -> tuple[Version, Alias] | None:
    """The version and the register of an alias, from one statement; None if it points nowhere."""
    row = _find_row(connection, reference)
    if row is None:
        return None
    version = version_record(row, files_of(connection, row["commit_id"]))
    return version, _alias_record(row)


def _find_row(connection: Connection, reference: Reference) -> RowMapping | None:
    statement = _STATEMENTS[reference.selector]()
    parameters = {"adapter": reference.adapter.key, **_parameters(reference)}
    rows = connection.execute(statement, parameters).mappings().all()
    if len(rows) > 1:
        raise InvalidReference(str(reference), "several versions begin with these digits; write more of them")
    return rows[0] if rows else None


def _parameters(reference: Reference) -> Mapping[str, Any]:
    match reference.selector:
        case Selector.MAIN:
            return {}
        case Selector.VERSION:
            return {"value": reference.number}
        case Selector.ALIAS:
            return {"value": reference.value.lower()}
        case Selector.COMMIT:
            return {"value": reference.value}
        case Selector.DIGEST:
            return {"value": reference.value, "above": f"{reference.value}g"}  # "g" is the character after "f"


@cache
def _adapter_id() -> Any:
    return select(adapters.c.id).where(adapters.c.name_key == bindparam("adapter")).scalar_subquery()


def _narrowed(*columns: Any, commit: Any) -> Select[Any]:
    """Versions with their names and the commit that `commit` joins; `commit` and `commit_id` are that commit's."""
    own = [column for column in versions.c if column.name != "commit"]
    names = (namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
    found = (commits.c.hash.label("commit"), commits.c.id.label("commit_id"))
    return (
        select(*own, *names, *found, *columns)
        .select_from(versions)
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .join(commits, commit)
    )


def _first_commit() -> Any:
    return and_(commits.c.adapter_id == versions.c.adapter_id, commits.c.hash == versions.c.commit)


@cache
def _by_main() -> Select[Any]:
    return (
        _narrowed(commit=commits.c.id == versions.c.main_position)
        .where(versions.c.adapter_id == _adapter_id(), versions.c.status == Status.ACTIVE.value)
        .where(versions.c.main_position.is_not(None))
        .order_by(versions.c.main_position.desc())
        .limit(1)
    )


@cache
def _by_number() -> Select[Any]:
    statement = _narrowed(commit=_first_commit())
    return statement.where(versions.c.adapter_id == _adapter_id(), versions.c.number == bindparam("value"))


@cache
def _by_digest() -> Select[Any]:
    return (
        _narrowed(commit=_first_commit())
        .where(versions.c.adapter_id == _adapter_id())
        .where(versions.c.digest >= bindparam("value"), versions.c.digest < bindparam("above"))
        .limit(2)
    )


@cache
def _by_commit() -> Select[Any]:
    same = and_(commits.c.adapter_id == versions.c.adapter_id, commits.c.number == versions.c.number)
    return _narrowed(commit=same).where(commits.c.adapter_id == _adapter_id(), commits.c.hash == bindparam("value"))


@cache
def _by_alias() -> Select[Any]:
    register = (
        aliases.c.name.label("alias"),
        aliases.c.seq,
        aliases.c.actor.label("alias_actor"),
        aliases.c.updated_at.label("alias_updated_at"),
    )
    target = and_(aliases.c.adapter_id == versions.c.adapter_id, aliases.c.number == versions.c.number)
    return (
        _narrowed(*register, commit=_first_commit())
        .join(aliases, target)
        .where(aliases.c.adapter_id == _adapter_id(), aliases.c.name_key == bindparam("value"))
    )


_STATEMENTS: Mapping[Selector, Callable[[], Select[Any]]] = {
    Selector.MAIN: _by_main,
    Selector.VERSION: _by_number,
    Selector.DIGEST: _by_digest,
    Selector.COMMIT: _by_commit,
    Selector.ALIAS: _by_alias,
}


def _alias_record(row: RowMapping) -> Alias:
    return Alias(
        adapter=AdapterName(row["team"], row["adapter"]),
        name=row["alias"],
        version=row["number"],
        seq=row["seq"],
        actor=row["alias_actor"],
        updated_at=row["alias_updated_at"],
    )
