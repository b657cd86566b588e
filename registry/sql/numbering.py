"""Numbering: giving a content its version, and keeping what hangs on it: modules, search words, its base's history."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.engine import Connection

from registry.domain.errors import AdapterNotFound
from registry.domain.records import Evidence, Version, VersionBase
from registry.domain.reference import AdapterName
from registry.domain.spec import ModuleSpec
from registry.sql.inserts import insert_all
from registry.sql.rows import summary_columns
from registry.sql.tables.names import adapters
from registry.sql.tables.version_parts import version_bases, version_modules, version_targets, version_words
from registry.sql.tables.versions import versions
from registry.sql.words import words_of


def add_version(connection: Connection, version: Version, modules: tuple[ModuleSpec, ...]) -> Version:
    """Store a version under the next number of its adapter. Raises AdapterNotFound."""
    adapter_id, number = _next_number(connection, version.adapter, version.created_at)
    numbered = replace(version, number=number)
    result = connection.execute(insert(versions), _columns(numbered, adapter_id))
    assert result.inserted_primary_key is not None
    row_id: int = result.inserted_primary_key[0]
    specs = [module.to_document() for module in modules]
    insert_all(connection, version_modules, [{"version_id": row_id, "modules": specs}])
    _index(connection, row_id, numbered)
    _append_base(connection, row_id, version.base, actor=version.author, at=version.created_at)
    return numbered


def modules_of(connection: Connection, row_id: int) -> tuple[ModuleSpec, ...]:
    """The modules of a version."""
    stored = connection.scalar(select(version_modules.c.modules).where(version_modules.c.version_id == row_id))
    return tuple(ModuleSpec.from_document(module) for module in stored or ())


def change_base(
    connection: Connection,
    row_id: int,
    base: VersionBase,
    *,
    modules: tuple[ModuleSpec, ...],
    actor: str,
    at: datetime,
) -> None:
    """Make a base the current one of a version, with the modules as matched to it; earlier bases stay on record."""
    connection.execute(update(versions).where(versions.c.id == row_id).values(_base_columns(base)))
    specs = [module.to_document() for module in modules]
    matched = update(version_modules).where(version_modules.c.version_id == row_id)
    connection.execute(matched.values(modules=specs))
    _append_base(connection, row_id, base, actor=actor, at=at)


def bases_of(connection: Connection, row_id: int) -> tuple[VersionBase, ...]:
    """Everything that was ever known of a version's base, oldest first."""
    statement = select(version_bases).where(version_bases.c.version_id == row_id).order_by(version_bases.c.id)
    return tuple(
        VersionBase(row.name, row.fingerprint, Evidence(row.evidence)) for row in connection.execute(statement)
    )


def _next_number(connection: Connection, name: AdapterName, at: datetime) -> tuple[int, int]:
    statement = (
        update(adapters)
        .where(adapters.c.name_key == name.key)
        .values(last_number=adapters.c.last_number + 1, updated_at=at)
        .returning(adapters.c.id, adapters.c.last_number)
    )
    row = connection.execute(statement).first()
    if row is None:
        raise AdapterNotFound(str(name))
    return row.id, row.last_number


def _index(connection: Connection, row_id: int, version: Version) -> None:
    targets = sorted(set(version.summary.targets))
    insert_all(connection, version_targets, [{"target": target, "version_id": row_id} for target in targets])
    texts = [str(version.adapter), version.message, *version.metadata.keys(), *version.metadata.values()]
    insert_all(connection, version_words, [{"word": word, "version_id": row_id} for word in words_of(texts)])


def _append_base(connection: Connection, row_id: int, base: VersionBase, *, actor: str, at: datetime) -> None:
    row = {
        "version_id": row_id,
        "name": base.name,
        "fingerprint": base.fingerprint,
        "evidence": base.evidence.value,
        "actor": actor,
        "created_at": at,
    }
    connection.execute(insert(version_bases), row)


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
