"""Rows of versions and commits as records, and the ids that names stand for."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, select
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import AdapterNotFound, VersionNotFound
from registry.domain.records import Evidence, FileEntry, Status, Version, VersionBase
from registry.domain.reference import AdapterName
from registry.domain.spec import AdapterSummary
from registry.sql.tables.commits import commit_files
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.versions import versions


@cache
def version_rows() -> Select[Any]:
    """Versions with the stored spelling of their adapter as `team` and `adapter`; to be narrowed."""
    return (
        select(versions, namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
        .join(adapters, adapters.c.id == versions.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
    )


def adapter_id_of(name: AdapterName | str) -> Any:
    """A scalar subquery: the id of an adapter. It is evaluated once, so that an index may follow it in order."""
    key = name.key if isinstance(name, AdapterName) else name
    return select(adapters.c.id).where(adapters.c.name_key == key).scalar_subquery()


def adapter_id(connection: Connection, name: AdapterName) -> int:
    """The id of an adapter. Raises AdapterNotFound."""
    found = connection.scalar(select(adapters.c.id).where(adapters.c.name_key == name.key))
    if found is None:
        raise AdapterNotFound(str(name))
    return int(found)


def is_version(name: AdapterName, number: int) -> ColumnElement[bool]:
    """The condition that a row of `versions` is that version."""
    return and_(versions.c.adapter_id == adapter_id_of(name), versions.c.number == number)


def version_id(connection: Connection, name: AdapterName, number: int) -> int:
    """The id of a version. Raises VersionNotFound."""
    found = connection.scalar(select(versions.c.id).where(is_version(name, number)))
    if found is None:
        raise VersionNotFound(str(name), f"version v{number}")
    return int(found)


def files_of(connection: Connection, commit_id: int) -> tuple[FileEntry, ...]:
    """The files of a commit, by path."""
    return tuple(FileEntry(row.path, row.sha256, row.size) for row in connection.execute(_files(), {"id": commit_id}))


@cache
def _files() -> Select[Any]:
    return (
        select(commit_files.c.path, commit_files.c.sha256, commit_files.c.size)
        .where(commit_files.c.commit_id == bindparam("id"))
        .order_by(commit_files.c.path)
    )


def is_shown() -> ColumnElement[bool]:
    """The condition that a version is what its adapter's main shows: the newest active one there."""
    other = versions.alias()
    newest = (
        select(other.c.id)
        .where(other.c.adapter_id == versions.c.adapter_id, other.c.status == Status.ACTIVE.value)
        .where(other.c.main_position.is_not(None))
        .order_by(other.c.main_position.desc())
        .limit(1)
    )
    return versions.c.id == newest.correlate(versions).scalar_subquery()


def summary_columns(summary: AdapterSummary) -> dict[str, Any]:
    """A summary as columns: what is searched or shown in lists typed, the rest in `details`."""
    return {
        "format": summary.format,
        "peft_type": summary.peft_type,
        "rank": summary.rank,
        "alpha": summary.alpha,
        "dtype": summary.dtype,
        "parameters": summary.parameters,
        "details": {
            "ranks": summary.ranks,
            "targets": summary.targets,
            "variants": summary.variants,
            "base_name": summary.base_name,
            "base_revision": summary.base_revision,
            "task_type": summary.task_type,
        },
    }


def summary_record(row: RowMapping) -> AdapterSummary:
    """The summary of a version's row."""
    details = row["details"]
    return AdapterSummary(
        format=row["format"],
        peft_type=row["peft_type"],
        rank=row["rank"],
        alpha=row["alpha"],
        ranks=details["ranks"],
        targets=tuple(details["targets"]),
        variants=tuple(details["variants"]),
        dtype=row["dtype"],
        parameters=row["parameters"],
        base_name=details["base_name"],
        base_revision=details["base_revision"],
        task_type=details["task_type"],
    )


def version_record(row: RowMapping, files: Iterable[FileEntry] = ()) -> Version:
    """The record of a version's row, as `version_rows` selects it."""
    return Version(
        adapter=AdapterName(row["team"], row["adapter"]),
        number=row["number"],
        commit=row["commit"],
        digest=row["digest"],
        status=Status(row["status"]),
        status_reason=row["status_reason"],
        summary=summary_record(row),
        base=VersionBase(row["base_name"], row["base_fingerprint"], Evidence(row["base_evidence"])),
        size=row["size"],
        author=row["author"],
        message=row["message"],
        metadata=row["metadata"],
        created_at=row["created_at"],
        files=tuple(files),
        damage=row["damage"],
    )
