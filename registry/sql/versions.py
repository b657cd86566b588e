"""Versions: numbered contents of an adapter."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from registry.domain.errors import VersionNotFound, WrongUsage
from registry.domain.records import Alias, Page, Status, Version, VersionBase
from registry.domain.reference import AdapterName, Reference, Selector
from registry.domain.spec import ModuleSpec
from registry.sql.lookup import find_alias, find_version
from registry.sql.rows import adapter_id_of, is_shown, is_version, version_id, version_record, version_rows
from registry.sql.tables.names import adapters
from registry.sql.tables.versions import versions


class Versions:
    """Queries on versions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, version: Version, modules: tuple[ModuleSpec, ...]) -> Version:
        """Store a version under the next number of its adapter, which is locked by this until the commit.

        `version.number` is ignored and returned filled in. The version's commit must be added in the same
        transaction, after it. Raises AdapterNotFound.
        """
        from registry.sql.numbering import add_version  # lazy: start-up time

        return add_version(self._connection, version, modules)

    def by_digest(self, name: AdapterName, digest: str) -> Version | None:
        """The version with exactly this content digest (64 hex)."""
        return find_version(self._connection, Reference(name, Selector.DIGEST, digest))

    def find(self, reference: Reference) -> Version | None:
        """The version that a reference means, with its files and current base; None if there is none.

        Without a selector: the newest commit on main whose version is active, with that commit's files. Exact pins
        and aliases answer with any status. Raises InvalidReference for a digest that fits several versions.
        """
        return find_version(self._connection, reference)

    def find_alias(self, reference: Reference) -> tuple[Version, Alias] | None:
        """Version and register of an alias as of one moment; None if it points nowhere."""
        if reference.selector is not Selector.ALIAS:
            raise WrongUsage(f"{reference} names no alias")
        return find_alias(self._connection, reference)

    def list(self, name: AdapterName, *, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """A page of an adapter's versions, newest first, without their files."""
        statement = version_rows().where(versions.c.adapter_id == adapter_id_of(name))
        if cursor is not None:
            statement = statement.where(versions.c.number < number_of(cursor))
        statement = statement.order_by(versions.c.number.desc()).limit(limit + 1)
        rows = self._connection.execute(statement).mappings().all()
        page = rows[:limit]
        following = str(page[-1]["number"]) if len(rows) > limit else None
        return Page(tuple(version_record(row) for row in page), following)

    def newest(self, names: Iterable[AdapterName]) -> dict[AdapterName, Version]:
        """The version with the highest number of each of these adapters, whatever its status, without its files.

        One statement for all of them; an adapter without versions is left out.
        """
        statement = version_rows().where(
            adapters.c.name_key.in_([name.key for name in names]), versions.c.number == adapters.c.last_number
        )
        found = map(version_record, self._connection.execute(statement).mappings())
        return {version.adapter: version for version in found}

    def shown(self, names: Iterable[AdapterName]) -> dict[AdapterName, Version]:
        """What main shows of each of these adapters, without its files; one that shows nothing is left out."""
        statement = version_rows().where(adapters.c.name_key.in_([name.key for name in names]), is_shown())
        found = map(version_record, self._connection.execute(statement).mappings())
        return {version.adapter: version for version in found}

    def commits(self, name: AdapterName) -> dict[int, tuple[str, Status]]:
        """The first commit and the status of each version of an adapter, newest first, by number."""
        columns = (versions.c.number, versions.c.commit, versions.c.status)
        statement = select(*columns).where(versions.c.adapter_id == adapter_id_of(name))
        rows = self._connection.execute(statement.order_by(versions.c.number.desc()))
        return {row.number: (row.commit, Status(row.status)) for row in rows}

    def modules(self, name: AdapterName, number: int) -> tuple[ModuleSpec, ...]:
        """The modules of a version. Raises VersionNotFound."""
        from registry.sql.numbering import modules_of  # lazy: start-up time

        return modules_of(self._connection, version_id(self._connection, name, number))

    def set_status(self, name: AdapterName, number: int, *, status: Status, reason: str | None) -> None:
        """Change the status of a version. The caller holds the adapter's lock. Raises VersionNotFound."""
        values = {"status": status.value, "status_reason": reason}
        result = self._connection.execute(update(versions).where(is_version(name, number)).values(values))
        if result.rowcount != 1:
            raise VersionNotFound(str(name), f"version v{number}")

    def purge_all(self, name: AdapterName, *, reason: str) -> int:
        """Purge every version of an adapter that isn't yet; how many there were. The caller holds its lock."""
        kept = (versions.c.adapter_id == adapter_id_of(name)) & (versions.c.status != Status.PURGED.value)
        values = {"status": Status.PURGED.value, "status_reason": reason}
        return self._connection.execute(update(versions).where(kept).values(values)).rowcount

    def set_base(
        self,
        name: AdapterName,
        number: int,
        base: VersionBase,
        *,
        modules: tuple[ModuleSpec, ...],
        actor: str,
        at: datetime,
    ) -> None:
        """Make a base the current one of a version, with the modules as matched to it; earlier bases stay on record.

        Raises VersionNotFound.
        """
        from registry.sql.numbering import change_base  # lazy: start-up time

        row_id = version_id(self._connection, name, number)
        change_base(self._connection, row_id, base, modules=modules, actor=actor, at=at)

    def bases(self, name: AdapterName, number: int) -> tuple[VersionBase, ...]:
        """Everything that was ever known of a version's base, oldest first; the last one is current.

        Raises VersionNotFound.
        """
        from registry.sql.numbering import bases_of  # lazy: start-up time

        return bases_of(self._connection, version_id(self._connection, name, number))


def number_of(cursor: str) -> int:
    """The number that a page's cursor holds. Raises WrongUsage for one that we didn't give out."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise WrongUsage("the cursor is not one of this listing")
    return int(cursor)
