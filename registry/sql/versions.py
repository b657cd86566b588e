"""Versions: numbered contents of an adapter."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.errors import AdapterNotFound, VersionNotFound, WrongUsage
from registry.domain.records import Alias, Evidence, Page, Status, Version, VersionBase
from registry.domain.reference import AdapterName, Reference, Selector
from registry.domain.spec import ModuleSpec
from registry.sql.inserts import insert_all
from registry.sql.lookup import find_alias, find_version
from registry.sql.rows import adapter_id_of, is_version, summary_columns, version_id, version_record, version_rows
from registry.sql.tables.names import adapters
from registry.sql.tables.versions import version_bases, version_modules, version_targets, version_words, versions
from registry.sql.words import words_of


class Versions:
    """Queries on versions."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, version: Version, modules: tuple[ModuleSpec, ...]) -> Version:
        """Store a version under the next number of its adapter, which is locked by this until the commit.

        `version.number` is ignored and returned filled in. The version's commit must be added in the same
        transaction, after it. Raises AdapterNotFound.
        """
        adapter_id, number = self._next_number(version.adapter, version.created_at)
        numbered = replace(version, number=number)
        row = _columns(numbered, adapter_id)
        result = self._connection.execute(insert(versions), row)
        assert result.inserted_primary_key is not None
        row_id: int = result.inserted_primary_key[0]
        specs = [_module_row(module) for module in modules]
        insert_all(self._connection, version_modules, [{"version_id": row_id, "modules": specs}])
        self._index(row_id, numbered)
        self._append_base(row_id, version.base, actor=version.author, at=version.created_at)
        return numbered

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

    def modules(self, name: AdapterName, number: int) -> tuple[ModuleSpec, ...]:
        """The modules of a version. Raises VersionNotFound."""
        statement = (
            select(version_modules.c.modules)
            .join(versions, versions.c.id == version_modules.c.version_id)
            .where(is_version(name, number))
        )
        stored = self._connection.scalar(statement)
        if stored is None:
            raise VersionNotFound(str(name), f"version v{number}")
        return tuple(_module_record(row) for row in stored)

    def set_status(self, name: AdapterName, number: int, *, status: Status, reason: str | None) -> None:
        """Change the status of a version. The caller holds the adapter's lock. Raises VersionNotFound."""
        values = {"status": status.value, "status_reason": reason}
        result = self._connection.execute(update(versions).where(is_version(name, number)).values(values))
        if result.rowcount != 1:
            raise VersionNotFound(str(name), f"version v{number}")

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
        row_id = version_id(self._connection, name, number)
        statement = update(versions).where(versions.c.id == row_id).values(**_base_columns(base))
        self._connection.execute(statement)
        specs = [_module_row(module) for module in modules]
        matched = update(version_modules).where(version_modules.c.version_id == row_id).values(modules=specs)
        self._connection.execute(matched)
        self._append_base(row_id, base, actor=actor, at=at)

    def bases(self, name: AdapterName, number: int) -> tuple[VersionBase, ...]:
        """Everything that was ever known of a version's base, oldest first; the last one is current."""
        row_id = version_id(self._connection, name, number)
        statement = select(version_bases).where(version_bases.c.version_id == row_id).order_by(version_bases.c.id)
        return tuple(
            VersionBase(row.name, row.fingerprint, Evidence(row.evidence))
            for row in self._connection.execute(statement)
        )

    def _next_number(self, name: AdapterName, at: datetime) -> tuple[int, int]:
        statement = (
            update(adapters)
            .where(adapters.c.name_key == name.key)
            .values(last_number=adapters.c.last_number + 1, updated_at=at)
            .returning(adapters.c.id, adapters.c.last_number)
        )
        row = self._connection.execute(statement).first()
        if row is None:
            raise AdapterNotFound(str(name))
        return row.id, row.last_number

    def _index(self, row_id: int, version: Version) -> None:
        targets = sorted(set(version.summary.targets))
        insert_all(self._connection, version_targets, [{"target": t, "version_id": row_id} for t in targets])
        texts = [str(version.adapter), version.message, *version.metadata.keys(), *version.metadata.values()]
        words = words_of(texts)
        insert_all(self._connection, version_words, [{"word": word, "version_id": row_id} for word in words])

    def _append_base(self, row_id: int, base: VersionBase, *, actor: str, at: datetime) -> None:
        row = {
            "version_id": row_id,
            "name": base.name,
            "fingerprint": base.fingerprint,
            "evidence": base.evidence.value,
            "actor": actor,
            "created_at": at,
        }
        insert_all(self._connection, version_bases, [row])


def number_of(cursor: str) -> int:
    """The number that a page's cursor holds. Raises WrongUsage for one that we didn't give out."""
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 18):
        raise WrongUsage("the cursor is not one of this listing")
    return int(cursor)


def _columns(version: Version, adapter_id: int) -> dict[str, Any]:
    return {
        "adapter_id": adapter_id,
        "number": version.number,
        "digest": version.digest,
        "commit": version.commit,
        "status": version.status.value,
        "status_reason": version.status_reason,
        "size": version.size,
        "author": version.author,
        "message": version.message,
        "metadata": version.metadata,
        "created_at": version.created_at,
        **summary_columns(version.summary),
        **_base_columns(version.base),
    }


def _base_columns(base: VersionBase) -> dict[str, Any]:
    return {
        "base_key": base.fingerprint or (base.name.lower() if base.name else None),
        "base_name": base.name,
        "base_fingerprint": base.fingerprint,
        "base_evidence": base.evidence.value,
    }


def _module_row(module: ModuleSpec) -> dict[str, Any]:
    return asdict(module)


def _module_record(row: dict[str, Any]) -> ModuleSpec:
    return ModuleSpec(**{**row, "variants": tuple(row["variants"])})
