"""token create, list and revoke."""

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Facts, Output, facts, next_step, say, table
from cli.text import when
from registry.domain.documents import token_document
from registry.domain.records import Token
from registry.domain.rights import Scope

if TYPE_CHECKING:
    from registry.service.access import NewToken


@click.group(cls=Commands)
def token() -> None:
    """Make, list and revoke tokens.

    A token shows a server who is asking. It can do no more than the person whom it stands for.
    """


@token.command("create", examples=["adapters token create laptop", "adapters token create ci --for ci --scope read"])
@click.argument("name", metavar="NAME", help="what the token is for")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="Only for this; may be repeated. All that you may do by default.",
)
@click.option("--team", "teams", multiple=True, help="Only in this team; may be repeated.")
@click.option("--days", type=click.IntRange(1, 36500), help="For so many days; for ever by default.")
@click.option("--for", "principal", metavar="WHO", help="For somebody else, who becomes known by it (operators).")
@click.option("--operator", is_flag=True, help="Let WHO run the registry: make teams, people and bases.")
def create(
    out: Output,
    name: str,
    scopes: tuple[str, ...],
    teams: tuple[str, ...],
    days: int | None,
    principal: str | None,
    operator: bool,
) -> None:
    """Make a token. It is shown now and never again.

    `read` is looking and pulling, `write` pushing and yanking, `promote` moving aliases, `evaluate` recording
    measurements, `admin` members and revoking; the others are of no use without `read`.
    """
    with opened() as registry:
        made = registry.create_token(
            name,
            principal=principal,
            scopes=[Scope(scope) for scope in scopes] or None,
            teams=teams or None,
            lifetime=timedelta(days=days) if days else None,
            operator=operator,
        )
    document = token_document(made.token) | {"token": made.secret}
    who = made.token.principal
    out.answer(document, lambda: facts(_facts(made)), lambda: next_step(f"adapters team role TEAM {who} writer"))


def _facts(made: "NewToken") -> Facts:
    return [
        ("token", made.secret),
        ("number", f"{made.token.id}: {made.token.name}"),
        ("for", made.token.principal),
        ("limits", _limits(made.token)),
        ("until", when(made.token.expires_at) if made.token.expires_at else "revoked"),
    ]


def _limits(found: Token) -> str:
    scopes = "everything" if len(found.scopes) == len(Scope) else " ".join(scope.value for scope in found.scopes)
    return scopes if found.teams is None else f"{scopes} in {' '.join(found.teams)}"


@token.command("list", examples=["adapters token list"])
def list_tokens(out: Output) -> None:
    """List your tokens; those of everybody for whoever runs the registry."""
    with opened() as registry:
        found = registry.tokens()
    out.answer({"tokens": [token_document(one) for one in found]}, lambda: _tokens(found))


def _tokens(found: Sequence[Token]) -> None:
    if not found:
        say("no tokens here; `adapters token create NAME` makes one")
        return
    table(["number", "name", "for", "limits", "last used", "state"], [_row(one) for one in found], numbers=["number"])


def _row(found: Token) -> list[str]:
    used = when(found.used_at) if found.used_at else "never"
    return [str(found.id), found.name, found.principal, _limits(found), used, _state(found)]


def _state(found: Token) -> str:
    if found.revoked_at:
        return f"revoked {when(found.revoked_at)}"
    return f"until {when(found.expires_at)}" if found.expires_at else "in force"


@token.command("revoke", examples=["adapters token revoke 1"])
@click.argument("number", metavar="NUMBER", type=click.IntRange(min=1), help="the token, as `token list` numbers it")
def revoke(out: Output, number: int) -> None:
    """Revoke a token, within a second wherever it is used."""
    with opened() as registry:
        revoked = registry.revoke_token(number)
    document: dict[str, Any] = token_document(revoked)
    out.answer(document, lambda: say(f"the token {revoked.id} ({revoked.name}) of {revoked.principal} is revoked"))
