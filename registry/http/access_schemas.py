"""The shapes of teams, tokens, callers and the audit log."""

from typing import Any

from registry.http.schemas import NAME, TIME, Shape, example, example_of


class Team(Shape):
    """A team: private, or public for everybody with a token."""

    model_config = example(name="acme", visibility="private", created_at=TIME)

    name: str
    visibility: str
    created_at: str


class Teams(Shape):
    """Teams by name."""

    teams: list[Team]


class Member(Shape):
    """A principal's role in a team."""

    model_config = example(team="acme", principal="ann", role="maintainer", since=TIME)

    team: str
    principal: str
    role: str
    since: str


class Members(Shape):
    """Who is in a team, by name."""

    members: list[Member]


class Token(Shape):
    """A token without its secret; `teams` null: wherever its principal has rights."""

    model_config = example(
        id=7,
        principal="ann",
        name="ci",
        scopes=["read", "write"],
        teams=["acme"],
        created_at=TIME,
        expires_at=None,
        used_at=None,
        revoked_at=None,
    )

    id: int
    principal: str
    name: str
    scopes: list[str]
    teams: list[str] | None
    created_at: str
    expires_at: str | None
    used_at: str | None
    revoked_at: str | None


class NewToken(Token):
    """A token and its secret, which nobody sees again."""

    model_config = example(**example_of(Token), token="adp_dLQWS8…")  # noqa: S106 - an example

    token: str


class Tokens(Shape):
    """Tokens, newest first."""

    tokens: list[Token]


class Caller(Shape):
    """Who one is; `teams` null is no limit."""

    model_config = example(name="ann", operator=False, scopes=["read"], teams=None, roles={"acme": "maintainer"})

    name: str
    operator: bool
    scopes: list[str]
    teams: list[str] | None
    roles: dict[str, str]


class Event(Shape):
    """Something that was done; cursors grow in commit order."""

    model_config = example(
        cursor=41, kind="alias.moved", name=NAME, actor="ann", at=TIME, payload={"alias": "production", "after": 2}
    )

    cursor: int
    kind: str
    name: str | None
    actor: str | None
    at: str | None
    payload: dict[str, Any]


class Audit(Shape):
    """Lines of the audit log, oldest first; `cursor` is null at its end."""

    events: list[Event]
    cursor: int | None


class AuditCheck(Shape):
    """How many lines were read, and the cursors of those that are not what was written."""

    model_config = example(lines=41, broken=[])

    lines: int
    broken: list[int]
