"""How much a team may keep: set by whoever runs the registry, held where something is added."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from registry.domain.errors import TeamNotFound
from registry.domain.quotas import Account, Quota, check_growth
from registry.domain.records import FileEntry
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.sql.catalog import Catalog


@contextmanager
def within_quota(
    catalog: Catalog, team: str, files: Iterable[FileEntry] = (), *, incoming: bool = False
) -> Iterator[None]:
    """Refuse what the block adds beyond a team's quota; others who add wait until the commit.

    `files` are those that it lets the team's adapters hold. With `incoming`, files on their way in count among the
    bytes. Raises QuotaExceeded.
    """
    held = catalog.quotas.lock(team)
    if held is None:
        yield
        return
    before = catalog.quotas.usage(team, held.kept)
    added = catalog.quotas.unheld(team, {file.sha256: file.size for file in files})
    yield
    after = catalog.quotas.usage(team, held.kept + added)
    if incoming:
        before, after = (replace(one, bytes=one.bytes + one.incoming) for one in (before, after))
    check_growth(team, held.quota, before, after)
    if added:
        catalog.quotas.keep(team, held.kept + added)


def recount(catalog: Catalog, team: str) -> None:
    """Count a team's bytes anew, if it has a quota."""
    if catalog.quotas.lock(team) is not None:
        catalog.quotas.keep(team, catalog.quotas.count_bytes(team))


class Quotas(UseCases):
    """Show and set quotas."""

    def quota(self, team: str) -> Account:
        """A team's quota and what it has. Raises TeamNotFound."""
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.READ)
            return _account(catalog, team)

    def check_room(self, team: str, size: int) -> None:
        """Refuse bytes for which a team has no room, before they are sent. Raises QuotaExceeded, NotAllowed."""
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.WRITE)
            account = _account(catalog, team)
        usage = account.usage
        check_growth(account.team, account.quota, usage, replace(usage, bytes=usage.bytes + size))

    def set_quota(self, team: str, quota: Quota) -> Account:
        """Put a quota in the place of a team's own; what it has beyond that stays. For operators.

        Raises NotAllowed, TeamNotFound, WrongUsage.
        """
        quota.checked()
        with self.database.writing() as catalog:
            self.require_team(catalog, team, Scope.READ)
            self.require_operator("set", f"the quota of the team {team}")
            found = catalog.teams.find(team)
            if found is None:
                raise TeamNotFound(team)
            catalog.quotas.set(team, quota, actor=self.actor, at=self.clock())
            catalog.events.append("team.quota", None, {"team": found.name, **asdict(quota)}, actor=self.actor)
            return _account(catalog, team)


def _account(catalog: Catalog, team: str) -> Account:
    found = catalog.teams.find(team)
    if found is None:
        raise TeamNotFound(team)
    held = catalog.quotas.find(team)
    if held is None:
        return Account(found.name, Quota(), catalog.quotas.usage(team))
    return Account(found.name, held.quota, catalog.quotas.usage(team, held.kept))
