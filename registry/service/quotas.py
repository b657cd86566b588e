"""How much a team may keep: set by whoever runs the registry, held where something is added."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace

from registry.domain.errors import TeamNotFound
from registry.domain.quotas import Account, Quota, Usage, check_growth
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.sql.catalog import Catalog


@contextmanager
def within_quota(catalog: Catalog, team: str, *, incoming: bool = False) -> Iterator[None]:
    """Refuse what the block adds beyond a team's quota; others who add wait until the commit.

    With `incoming`, files on their way in count among the bytes. Raises QuotaExceeded.
    """
    quota = catalog.quotas.lock(team)
    if quota is None or quota == Quota():
        yield
        return
    before = _counted(catalog, team, incoming)
    yield
    check_growth(team, quota, before, _counted(catalog, team, incoming))


def _counted(catalog: Catalog, team: str, incoming: bool) -> Usage:
    usage = catalog.quotas.usage(team)
    return replace(usage, bytes=usage.bytes + usage.incoming) if incoming else usage


class Quotas(UseCases):
    """Show and set quotas."""

    def quota(self, team: str) -> Account:
        """A team's quota and what it has. Raises TeamNotFound."""
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.READ)
            return _account(catalog, team)

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
    return Account(found.name, catalog.quotas.find(team) or Quota(), catalog.quotas.usage(team))
