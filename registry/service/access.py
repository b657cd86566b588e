"""Who gets in: principals, teams and their members, tokens, and the audit log of what everybody did."""

import hashlib
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from registry.domain.errors import (
    NotAllowed,
    NotAuthenticated,
    PrincipalNotFound,
    TeamNotFound,
    TokenNotFound,
    WrongUsage,
)
from registry.domain.records import Event, Member, Namespace, Token
from registry.domain.reference import check_part
from registry.domain.rights import Caller, Role, Scope
from registry.domain.texts import MAX_KEY, check_text
from registry.service.core import UseCases
from registry.sql.catalog import Catalog
from registry.sql.tokens import Holder

PREFIX = "adp_"  # a secret scanner's friend
_SECRET_BYTES = 32
_NOTE_EVERY = timedelta(minutes=1)  # how often a token's last use is written down
_UNKNOWN = "the token is unknown, expired or revoked"


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token, and its secret: this is the only time that anybody sees it."""

    token: Token
    secret: str


@dataclass(frozen=True, slots=True)
class Admission:
    """A caller, and for how many seconds its token will last."""

    caller: Caller
    lasts: float


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """How many lines of the audit log were read, and the cursors of those that are not what was written."""

    lines: int
    broken: tuple[int, ...]


class Access(UseCases):
    """Teams, tokens, callers, audit."""

    def authenticate(self, secret: str) -> Caller:
        """The caller behind a token, with the rights that it has now. Raises NotAuthenticated."""
        return self.admit(secret).caller

    def admit(self, secret: str) -> Admission:
        """As `authenticate`, for those who remember callers. Raises NotAuthenticated."""
        at = self.clock()
        with self.database.reading() as catalog:
            holder = catalog.tokens.holder(_digest(secret))
            caller = _standing(catalog, holder, at)
        assert holder is not None
        self._note_use(holder.token, at)
        expires_at = holder.token.expires_at
        return Admission(caller, (expires_at - at).total_seconds() if expires_at else float("inf"))

    def caller_of(self, token_id: int) -> Caller:
        """The caller behind a token's number, with the rights that it has now. Raises NotAuthenticated."""
        with self.database.reading() as catalog:
            return caller_now(catalog, token_id, self.clock())

    def create_token(
        self,
        name: str,
        *,
        principal: str | None = None,
        scopes: Collection[Scope] | None = None,
        teams: Collection[str] | None = None,
        lifetime: timedelta | None = None,
        operator: bool = False,
    ) -> NewToken:
        """Make a token for oneself, or (an operator) for anybody, who becomes a principal by it.

        The token has no right that its principal lacks, whatever its scopes say. Raises NotAllowed, TeamNotFound.
        """
        _check_token(name, scopes, lifetime)
        limits = self._limits(scopes, teams)
        owner = principal or self.actor
        if owner.lower() != self.actor.lower() or operator:
            self.require_operator("make tokens for", owner)
        check_part(owner, "name", owner)
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        with self.database.writing() as catalog:
            for team in teams or ():
                self.require_team(catalog, team, Scope.READ)
                _found(catalog, team)
            at = self.clock()
            principal_id = catalog.teams.ensure_principal(owner, operator=operator, at=at)
            token = _new_token(owner, name, limits, at=at, lifetime=lifetime)
            token = catalog.tokens.add(principal_id, token, sha256=_digest(secret), actor=self.actor)
            payload = {"token": token.id, "principal": token.principal, "scopes": list(token.scopes)}
            catalog.events.append("token.created", None, payload, actor=self.actor)
        return NewToken(token, secret)

    def tokens(self) -> list[Token]:
        """One's own tokens; an operator's answer has everybody's."""
        with self.database.reading() as catalog:
            return catalog.tokens.list(None if self.caller.operates else self.actor)

    def own_token(self) -> Token | None:
        """The token that the caller came with, if it came with one."""
        with self.database.reading() as catalog:
            return None if self.caller.token is None else catalog.tokens.find(self.caller.token)

    def revoke_token(self, token_id: int) -> Token:
        """Revoke a token, one's own or (an operator) anybody's. Raises TokenNotFound."""
        with self.database.writing() as catalog:
            token = catalog.tokens.find(token_id)
            if token is None or not (self.caller.operates or token.principal == self.actor):
                raise TokenNotFound(token_id)
            catalog.tokens.revoke(token_id, at=self.clock())
            catalog.events.append("token.revoked", None, {"token": token_id}, actor=self.actor)
            revoked = catalog.tokens.find(token_id)
        assert revoked is not None
        return revoked

    # -- teams --------------------------------------------------------------------------------------------------------

    def create_team(self, team: str, *, public: bool = False) -> Namespace:
        """Make a team; whoever makes it owns it. An old one is only shown or hidden. Raises NotAllowed, NameTaken."""
        check_part(team, "team", team)
        self.require_operator("create", f"the team {team}")
        with self.database.writing() as catalog:
            made = catalog.teams.ensure(team, actor=self.actor, at=self.clock(), visibility=_visibility(public))
            if made.visibility != _visibility(public):  # it was there
                self._show(catalog, made, public=public)
            return _found(catalog, team)

    def set_visibility(self, team: str, *, public: bool) -> Namespace:
        """Make a team public (whoever has a token may read it) or private. Raises NotAllowed, TeamNotFound."""
        with self.database.writing() as catalog:
            self.require_team(catalog, team, Scope.ADMIN)
            self._show(catalog, _found(catalog, team), public=public)
            return _found(catalog, team)

    def _show(self, catalog: Catalog, team: Namespace, *, public: bool) -> None:
        catalog.teams.set_visibility(team.name, _visibility(public))
        catalog.events.append("team.visibility", None, {"team": team.name, "public": public}, actor=self.actor)

    def teams(self) -> list[Namespace]:
        """The teams that the caller may see."""
        with self.database.reading() as catalog:
            return catalog.teams.list(self.caller.readable)

    def members(self, team: str) -> list[Member]:
        """Who is in a team. Raises TeamNotFound."""
        with self.database.reading() as catalog:
            self.require_team(catalog, team, Scope.READ)
            _found(catalog, team)
            return catalog.teams.members(team)

    def set_role(self, team: str, principal: str, role: Role | None) -> list[Member]:
        """Give a principal a role in a team; None takes it out. Raises NotAllowed, TeamNotFound, PrincipalNotFound."""
        with self.database.writing() as catalog:
            self.require_team(catalog, team, Scope.ADMIN)
            found = _found(catalog, team)
            if not catalog.teams.principal_exists(principal):
                raise PrincipalNotFound(principal)
            catalog.teams.set_role(team, principal, role, actor=self.actor, at=self.clock())
            payload = {"team": found.name, "principal": principal, "role": role.value if role else None}
            catalog.events.append("team.role", None, payload, actor=self.actor)
            return catalog.teams.members(team)

    # -- audit --------------------------------------------------------------------------------------------------------

    def audit(self, *, cursor: int = 0, limit: int = 100) -> list[Event]:
        """What everybody did, oldest first, after a cursor. For operators. Raises NotAllowed."""
        self.require_operator("read", "the audit log")
        with self.database.reading() as catalog:
            return catalog.events.since(cursor, limit=limit)

    def verify_audit(self) -> AuditCheck:
        """Recompute the chain of the whole audit log. For operators. Raises NotAllowed."""
        self.require_operator("verify", "the audit log")
        with self.database.reading() as catalog:
            return AuditCheck(catalog.events.last(), tuple(catalog.events.broken()))

    # -- parts --------------------------------------------------------------------------------------------------------

    def _limits(
        self, scopes: Collection[Scope] | None, teams: Collection[str] | None
    ) -> tuple[tuple[Scope, ...], tuple[str, ...] | None]:
        """What a new token is limited to. A narrow token makes no wider one. Raises NotAllowed."""
        wanted = self.caller.scopes if scopes is None else frozenset(scopes)
        if not wanted <= self.caller.scopes:
            raise NotAllowed(self.actor, "hand on", ", ".join(sorted(wanted - self.caller.scopes)))
        within = self.caller.teams if teams is None else frozenset(team.lower() for team in teams)
        return tuple(scope for scope in Scope if scope in wanted), None if within is None else tuple(sorted(within))

    def _note_use(self, token: Token, at: datetime) -> None:
        if token.used_at is None or at - token.used_at >= _NOTE_EVERY:
            with self.database.writing() as catalog:
                catalog.tokens.used(token.id, at=at)


def caller_now(catalog: Catalog, token_id: int, at: datetime) -> Caller:
    """The caller behind a token that was shown earlier, with the rights that it has now. Raises NotAuthenticated."""
    return _standing(catalog, catalog.tokens.holder_of(token_id), at)


def _standing(catalog: Catalog, holder: Holder | None, at: datetime) -> Caller:
    if holder is None or not _stands(holder.token, at):
        raise NotAuthenticated(_UNKNOWN)
    return _caller(holder, catalog.teams.roles(holder.principal_id))


def _digest(secret: str) -> str:
    # 256 random bits need no slow hash: there is no guessing them.
    return hashlib.sha256(secret.encode()).hexdigest()


def _stands(token: Token, at: datetime) -> bool:
    return token.revoked_at is None and (token.expires_at is None or at < token.expires_at)


def _caller(holder: Holder, roles: Mapping[str, Role]) -> Caller:
    token = holder.token
    teams = None if token.teams is None else frozenset(token.teams)
    return Caller(token.principal, frozenset(token.scopes), teams, holder.operator, roles, token.id)


def _new_token(
    owner: str,
    name: str,
    limits: tuple[tuple[Scope, ...], tuple[str, ...] | None],
    *,
    at: datetime,
    lifetime: timedelta | None,
) -> Token:
    return Token(0, owner, name, *limits, at, at + lifetime if lifetime else None, None, None)


def _check_token(name: str, scopes: Collection[Scope] | None, lifetime: timedelta | None) -> None:
    check_text("the token's name", name, MAX_KEY)
    if scopes is not None and not scopes:
        raise WrongUsage("a token needs at least one scope")
    if lifetime is not None and lifetime <= timedelta(0):
        raise WrongUsage("a token that lives for no time is of no use")


def _found(catalog: Catalog, team: str) -> Namespace:
    found = catalog.teams.find(team)
    if found is None:
        raise TeamNotFound(team)
    return found


def _visibility(public: bool) -> str:
    return "public" if public else "private"
