"""Who may use a server: the methods of `registry.service.access`."""

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING

from cli.remote.rooms import Room, part
from registry.domain import from_documents as records
from registry.domain.errors import NotAllowed
from registry.domain.records import Event, Member, Namespace, Token
from registry.domain.rights import Role, Scope

if TYPE_CHECKING:
    from registry.service.access import AuditCheck, NewToken


class Access(Room):
    """Teams, tokens, audit."""

    def require_operator(self, action: str, subject: str) -> None:
        """Refuse before any work what only those who run the registry may do; the server will ask again."""
        me = self._read(dict, self.connection.get("/v1/me"))
        if not (me.get("operator") and me.get("teams") is None and Scope.ADMIN in me.get("scopes", ())):
            raise NotAllowed(str(me.get("name")), action, subject)

    def create_token(
        self,
        name: str,
        *,
        principal: str | None = None,
        scopes: Collection[Scope] | None = None,
        teams: Collection[str] | None = None,
        lifetime: timedelta | None = None,
        operator: bool = False,
    ) -> "NewToken":
        """Make a token for oneself, or (an operator) for anybody."""
        from registry.service.access import NewToken  # lazy: start-up time

        wanted = {
            "name": name,
            "principal": principal,
            "scopes": None if scopes is None else list(scopes),
            "teams": None if teams is None else list(teams),
            "days": lifetime / timedelta(days=1) if lifetime else None,
            "operator": operator,
        }
        document = self.connection.request("POST", "/v1/tokens", json=wanted).document
        return self._read(lambda found: NewToken(records.token(found), str(found["token"])), document)

    def tokens(self) -> list[Token]:
        """One's own tokens; an operator's answer has everybody's."""
        return self._listed("tokens", records.token, self.connection.get("/v1/tokens"))

    def revoke_token(self, token_id: int) -> Token:
        """Revoke a token."""
        return self._read(records.token, self.connection.request("DELETE", f"/v1/tokens/{token_id}").document)

    def create_team(self, team: str, *, public: bool = False) -> Namespace:
        """Make a team; whoever makes it owns it."""
        wanted = {"name": team, "visibility": _visibility(public)}
        return self._read(records.team, self.connection.request("POST", "/v1/teams", json=wanted).document)

    def set_visibility(self, team: str, *, public: bool) -> Namespace:
        """Make a team public or private."""
        wanted = {"visibility": _visibility(public)}
        return self._read(records.team, self.connection.request("PATCH", _team_path(team), json=wanted).document)

    def teams(self) -> list[Namespace]:
        """The teams that the caller may see."""
        return self._listed("teams", records.team, self.connection.get("/v1/teams"))

    def members(self, team: str) -> list[Member]:
        """Who is in a team."""
        return self._listed("members", records.member, self.connection.get(f"{_team_path(team)}/members"))

    def set_role(self, team: str, principal: str, role: Role | None) -> list[Member]:
        """Give a principal a role in a team; None takes it out."""
        path = f"{_team_path(team)}/members/{part(principal)}"
        if role is None:
            answer = self.connection.request("DELETE", path)
        else:
            answer = self.connection.request("PUT", path, json={"role": role.value})
        return self._listed("members", records.member, answer.document)

    def audit(self, *, cursor: int = 0, limit: int = 100) -> list[Event]:
        """What everybody did, oldest first, after a cursor."""
        return self._listed(
            "events", records.event, self.connection.get("/v1/audit", {"cursor": cursor, "limit": limit})
        )

    def verify_audit(self) -> "AuditCheck":
        """Let the server recompute the chain of the whole audit log."""
        from registry.service.access import AuditCheck  # lazy: start-up time

        document = self.connection.get("/v1/audit/verify")
        return self._read(lambda found: AuditCheck(int(found["lines"]), tuple(map(int, found["broken"]))), document)


def _visibility(public: bool) -> str:
    return "public" if public else "private"


def _team_path(team: str) -> str:
    return f"/v1/teams/{part(team)}"
