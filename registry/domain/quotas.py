"""Quotas: how much a team may keep, what it keeps, and whether something more would be too much. Pure.

What counts:

    bytes      of the different files that commits of the team's adapters hold, each content once, whoever else has it
    versions   numbered contents, yanked and revoked ones too
    adapters   names, those without a commit yet too
    uploads    files on their way in that nobody has finished or given up

Deleted adapters and purged versions count for nothing. A file on its way in counts among the bytes too while it is
looked at whether another one may begin.
"""

from dataclasses import dataclass, fields
from typing import Any

from registry.domain.errors import QuotaExceeded, WrongUsage

_LARGEST = 2**62


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a team; None is no limit."""

    bytes: int | None = None
    versions: int | None = None
    adapters: int | None = None
    uploads: int | None = None

    def checked(self) -> "Quota":
        """Itself. Raises WrongUsage for a limit that can't be kept."""
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not 0 <= limit <= _LARGEST:
                raise WrongUsage(f"a limit of {limit} {field.name} makes no sense")
        return self


@dataclass(frozen=True, slots=True)
class Usage:
    """What a team has. `incoming` are bytes of uploads, finished or not, that no commit holds yet."""

    bytes: int = 0
    versions: int = 0
    adapters: int = 0
    uploads: int = 0
    incoming: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A team's quota, and what it has."""

    team: str
    quota: Quota
    usage: Usage


def check_growth(team: str, quota: Quota, before: Usage, after: Usage) -> None:
    """Refuse what grew beyond its limit; what was beyond it before may stay, and shrink. Raises QuotaExceeded."""
    for field in fields(quota):
        limit, used, now = (getattr(of, field.name) for of in (quota, before, after))
        if limit is not None and now > limit and now > used:
            raise QuotaExceeded(team, field.name, used, now - used, limit)


def account_document(account: Account) -> dict[str, Any]:
    """{"team", "bytes": {"used", "limit"}, …, "incoming"}; a limit of null is none."""
    lines = {
        field.name: {"used": getattr(account.usage, field.name), "limit": getattr(account.quota, field.name)}
        for field in fields(Quota)
    }
    return {"team": account.team, **lines, "incoming": account.usage.incoming}


def account_of(document: dict[str, Any]) -> Account:
    """The inverse of `account_document`."""
    names = [field.name for field in fields(Quota)]
    limits = {name: _limit(document[name]["limit"]) for name in names}
    used = {name: int(document[name]["used"]) for name in names}
    return Account(str(document["team"]), Quota(**limits), Usage(**used, incoming=int(document["incoming"])))


def _limit(value: Any) -> int | None:
    return None if value is None else int(value)
