"""Quotas, and what a team has: see `registry.domain.quotas` for what counts.

What a team has is counted when it is asked for, and only for teams with a quota when something is added: nothing can
drift, and a team without limits pays nothing.
"""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Select, exists, func, select, update
from sqlalchemy.engine import Connection

from registry.domain.quotas import Quota, Usage
from registry.domain.records import Status
from registry.sql.inserts import insert_absent
from registry.sql.tables.commits import commit_files, commits
from registry.sql.tables.names import adapters, namespaces
from registry.sql.tables.quotas import quotas
from registry.sql.tables.uploads import uploads
from registry.sql.tables.versions import versions


class Quotas:
    """Queries on quotas."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, team: str) -> Quota | None:
        """A team's quota; None if it has none."""
        return self._quota(_quotas(team))

    def lock(self, team: str) -> Quota | None:
        """A team's quota, held until the commit: whoever adds to what it limits waits. Before the adapter's lock."""
        return self._quota(_quotas(team).with_for_update(of=quotas))

    def set(self, team: str, quota: Quota, *, actor: str, at: datetime) -> None:
        """Put a quota in the place of the one that is there; whoever adds to what it limits goes first."""
        namespace_id = self._connection.scalar(select(namespaces.c.id).where(namespaces.c.name_key == team.lower()))
        values = {**asdict(quota), "actor": actor, "at": at}
        if not insert_absent(self._connection, quotas, [{"namespace_id": namespace_id, **values}]):
            self._connection.execute(update(quotas).where(quotas.c.namespace_id == namespace_id).values(values))

    def usage(self, team: str) -> Usage:
        """What a team has now."""
        own = select(adapters.c.id).join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        own = own.where(namespaces.c.name_key == team.lower(), adapters.c.deleted_at.is_(None))
        sending = select(uploads).join(namespaces, namespaces.c.id == uploads.c.namespace_id)
        sending = sending.where(namespaces.c.name_key == team.lower())
        kept = versions.c.adapter_id.in_(own), versions.c.status != Status.PURGED.value
        open_ones = sending.where(uploads.c.completed_at.is_(None))
        return Usage(
            bytes=self._bytes(_held(own)),
            versions=self._count(select(versions.c.id).where(*kept)),
            adapters=self._count(own.where(adapters.c.head.is_not(None))),
            uploads=self._count(open_ones),
            incoming=self._bytes(_incoming(team, own)),
        )

    def _quota(self, statement: Select[Any]) -> Quota | None:
        row = self._connection.execute(statement).first()
        return None if row is None else Quota(row.bytes, row.versions, row.adapters, row.uploads)

    def _count(self, statement: Select[Any]) -> int:
        return int(self._connection.scalar(select(func.count()).select_from(statement.subquery())) or 0)

    def _bytes(self, blobs: Select[Any]) -> int:
        return int(self._connection.scalar(select(func.sum(blobs.subquery().c.size))) or 0)


def _quotas(team: str) -> Select[Any]:
    return (
        select(quotas)
        .join(namespaces, namespaces.c.id == quotas.c.namespace_id)
        .where(namespaces.c.name_key == team.lower())
    )


def _held(own: Select[Any]) -> Select[Any]:
    """The different contents (sha256, size) that commits of some adapters hold, but for those of purged versions."""
    purged = exists().where(
        versions.c.adapter_id == commits.c.adapter_id,
        versions.c.number == commits.c.number,
        versions.c.status == Status.PURGED.value,
    )
    return (
        select(commit_files.c.sha256, commit_files.c.size)
        .join(commits, commits.c.id == commit_files.c.commit_id)
        .where(commits.c.adapter_id.in_(own), ~purged)
        .distinct()
    )


def _incoming(team: str, own: Select[Any]) -> Select[Any]:
    """The different contents of a team's uploads that no commit of its adapters holds."""
    held = (
        exists()
        .where(commit_files.c.sha256 == uploads.c.sha256, commits.c.id == commit_files.c.commit_id)
        .where(commits.c.adapter_id.in_(own))
    )
    return (
        select(uploads.c.sha256, uploads.c.size)
        .join(namespaces, namespaces.c.id == uploads.c.namespace_id)
        .where(namespaces.c.name_key == team.lower(), ~held)
        .distinct()
    )
