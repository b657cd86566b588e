"""Who may do what: scopes, the roles that give them, and a caller with the rights that it has now.

A right is a scope in a team. A caller has it through its role there, narrowed by the token that it came with. Whoever
may not read a team can't tell it from one that isn't there. This room knows no tokens and no database.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Scope(StrEnum):
    """Something that one may do in a team; every other scope is of no use without `read`."""

    READ = "read"
    WRITE = "write"  # push, blend into, yank
    PROMOTE = "promote"  # move aliases
    EVALUATE = "evaluate"  # record what was measured
    ADMIN = "admin"  # members, visibility, revoking, deleting, webhooks


class Role(StrEnum):
    """What a member of a team is."""

    READER = "reader"
    EVALUATOR = "evaluator"
    WRITER = "writer"
    MAINTAINER = "maintainer"
    OWNER = "owner"


EVERY_SCOPE: frozenset[Scope] = frozenset(Scope)
SCOPES_OF: Mapping[Role, frozenset[Scope]] = MappingProxyType(
    {
        Role.READER: frozenset({Scope.READ}),
        Role.EVALUATOR: frozenset({Scope.READ, Scope.EVALUATE}),
        Role.WRITER: frozenset({Scope.READ, Scope.WRITE, Scope.EVALUATE}),
        Role.MAINTAINER: frozenset({Scope.READ, Scope.WRITE, Scope.EVALUATE, Scope.PROMOTE}),
        Role.OWNER: EVERY_SCOPE,
    }
)


@dataclass(frozen=True, slots=True)
class Readable:
    """The teams (lower-cased) whose adapters a caller may see; with `public`, all public ones too."""

    teams: frozenset[str]
    public: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who asks: `roles` by team (lower-cased), and the `scopes` and `teams` that its token is limited to.

    An operator has every right in every team, but for what its token lacks. `teams` None is no limit. `token` is the
    token's number, by which a job finds out later what its requester may do then.
    """

    name: str
    scopes: frozenset[Scope] = EVERY_SCOPE
    teams: frozenset[str] | None = None
    operator: bool = False
    roles: Mapping[str, Role] = field(default_factory=dict)
    token: int | None = field(default=None, compare=False)

    def may(self, scope: Scope, team: str) -> bool:
        """Whether the caller has a scope in a team, by its role there."""
        key = team.lower()
        if scope not in self.scopes or (self.teams is not None and key not in self.teams):
            return False
        return self.operator or (key in self.roles and scope in SCOPES_OF[self.roles[key]])

    @property
    def reads_public(self) -> bool:
        """Whether teams that are public may be read without a role there."""
        return Scope.READ in self.scopes and self.teams is None

    @property
    def operates(self) -> bool:
        """Whether the caller runs this registry: makes teams and principals, names bases."""
        return self.operator and self.teams is None and Scope.ADMIN in self.scopes

    @property
    def readable(self) -> Readable | None:
        """The teams that it may see; None stands for all."""
        own = self.teams_with(Scope.READ)
        return None if own is None else Readable(own, self.reads_public)

    def teams_with(self, scope: Scope) -> frozenset[str] | None:
        """The teams (lower-cased) in which it has a scope; None stands for all."""
        if self.operator and self.teams is None and scope in self.scopes:
            return None
        own = self.teams or frozenset() if self.operator else frozenset(self.roles)
        return frozenset(team for team in own if self.may(scope, team))
