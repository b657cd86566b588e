"""Quotas, and what a team has: see `registry.domain.quotas` for what counts.

Bytes are counted when a quota is set, and then kept up under the quota's lock: counting 100,000 commits takes seconds.
All else is counted when it is asked for. A team without a quota pays nothing.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class Held:
    """A quota, and how many bytes its team has."""

    quota: Quota
    kept: int


class Quotas:
    """Queries on quotas."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, team: str) -> Held | None:
        """A team's quota; None if it has none."""
        return self._held(_quotas(team))

    def lock(self, team: str) -> Held | None:
        """A team's quota, held until the commit: whoever adds to what it limits waits. First of all locks."""
        return self._held(_quotas(team).with_for_update(of=quotas))

    def teams(self) -> list[str]:
        """The teams that have a quota."""
        named = select(namespaces.c.name).join(quotas, quotas.c.namespace_id == namespaces.c.id)
        return list(self._connection.scalars(named.order_by(namespaces.c.id)))

    def set(self, team: str, quota: Quota, *, actor: str, at: datetime) -> None:
        """Put a quota in the place of the one that is there; whoever adds to what it limits goes first."""
        namespace_id = self._connection.scalar(_team_id(team))
        values = {**asdict(quota), "actor": actor, "at": at}
        if not insert_absent(self._connection, quotas, [{"namespace_id": namespace_id, "kept": 0, **values}]):
            self._connection.execute(update(quotas).where(quotas.c.namespace_id == namespace_id).values(values))
        self.keep(team, self.count_bytes(team))

    def keep(self, team: str, kept: int) -> None:
        """Write down how many bytes a team has. The caller holds the quota's lock."""
        mine = quotas.c.namespace_id == _team_id(team).scalar_subquery()
        self._connection.execute(update(quotas).where(mine).values(kept=kept))

    def usage(self, team: str, kept: int | None = None) -> Usage:
        """What a team has now; `kept` are its bytes where somebody has kept them up."""
        own = _own(team)
        sending = select(uploads.c.id).where(uploads.c.namespace_id == _team_id(team).scalar_subquery())
        standing = versions.c.adapter_id.in_(own), versions.c.status != Status.PURGED.value
        return Usage(
            bytes=self.count_bytes(team) if kept is None else kept,
            versions=self._count(select(versions.c.id).where(*standing)),
            adapters=self._count(own),
            uploads=self._count(sending.where(uploads.c.completed_at.is_(None))),
            incoming=self._sum(_incoming(team, own)),
        )

    def count_bytes(self, team: str) -> int:
        """The bytes of the different contents that commits of a team's adapters hold, but for purged versions'."""
        held = select(commit_files.c.sha256, commit_files.c.size).where(*_is_held(_own(team)))
        return self._sum(held.distinct())

    def unheld(self, team: str, contents: Mapping[str, int]) -> int:
        """The bytes of those contents (sha256 -> size) that no commit of a team's adapters holds yet."""
        held = select(commit_files.c.sha256).where(*_is_held(_own(team)), commit_files.c.sha256.in_(sorted(contents)))
        known = set(self._connection.scalars(held.distinct()))
        return sum(size for sha256, size in contents.items() if sha256 not in known)

    def _held(self, statement: Select[Any]) -> Held | None:
        row = self._connection.execute(statement).first()
        return None if row is None else Held(Quota(row.bytes, row.versions, row.adapters, row.uploads), row.kept)

    def _count(self, statement: Select[Any]) -> int:
        return int(self._connection.scalar(select(func.count()).select_from(statement.subquery())) or 0)

    def _sum(self, contents: Select[Any]) -> int:
        return int(self._connection.scalar(select(func.sum(contents.subquery().c.size))) or 0)


def _quotas(team: str) -> Select[Any]:
    return select(quotas).where(quotas.c.namespace_id == _team_id(team).scalar_subquery())


def _team_id(team: str) -> Select[Any]:
    return select(namespaces.c.id).where(namespaces.c.name_key == team.lower())


def _own(team: str) -> Select[Any]:
    """The ids of a team's adapters, without deleted ones."""
    return select(adapters.c.id).where(
        adapters.c.namespace_id == _team_id(team).scalar_subquery(), adapters.c.deleted_at.is_(None)
    )


def _is_held(own: Select[Any]) -> tuple[Any, ...]:
    """The condition that a file is one of a commit of some adapters, whose version isn't purged."""
    purged = exists().where(
        versions.c.adapter_id == commits.c.adapter_id,
        versions.c.number == commits.c.number,
        versions.c.status == Status.PURGED.value,
    )
    return commits.c.id == commit_files.c.commit_id, commits.c.adapter_id.in_(own), ~purged


def _incoming(team: str, own: Select[Any]) -> Select[Any]:
    """The different contents of a team's uploads that no commit of its adapters holds, but for what was refused."""
    held = exists().where(*_is_held(own), commit_files.c.sha256 == uploads.c.sha256)
    mine = uploads.c.namespace_id == _team_id(team).scalar_subquery()
    return select(uploads.c.sha256, uploads.c.size).where(mine, ~held, uploads.c.failure.is_(None)).distinct()
