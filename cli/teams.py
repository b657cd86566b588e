"""team create, list, members, role and visibility."""

from collections.abc import Sequence

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Output, facts, next_step, say, table
from cli.text import when
from registry.domain.documents import member_document, team_document
from registry.domain.records import Member, Namespace
from registry.domain.rights import Role

_NOBODY = "none"


@click.group(cls=Commands)
def team() -> None:
    """Make teams, and say who is in them.

    A team is the part of an adapter's name before the slash; who may do what is decided there.
    """


_team_argument = click.argument("name", metavar="TEAM", help="the team")


@team.command("create", examples=["adapters team create research"])
@_team_argument
@click.option("--public", is_flag=True, help="Whoever has a token may read it.")
def create(out: Output, name: str, public: bool) -> None:
    """Make a team. Whoever makes it owns it.

    Only those who run the registry may.
    """
    with opened() as registry:
        made = registry.create_team(name, public=public)
    out.answer(
        team_document(made),
        lambda: _describe(made),
        lambda: next_step(f"adapters team role {made.name} WHO writer"),
    )


def _describe(found: Namespace) -> None:
    facts([("team", found.name), ("visible", found.visibility), ("made", when(found.created_at))])


@team.command("list", examples=["adapters team list"])
def list_teams(out: Output) -> None:
    """List the teams that you may see."""
    with opened() as registry:
        found = registry.teams()
    out.answer({"teams": [team_document(one) for one in found]}, lambda: _teams(found))


def _teams(found: Sequence[Namespace]) -> None:
    if not found:
        say("no teams here; `adapters team create NAME` makes one, and so does the first push of an operator")
        return
    table(["team", "visibility", "made (UTC)"], [[one.name, one.visibility, when(one.created_at)] for one in found])


@team.command("members", examples=["adapters team members demo"])
@_team_argument
def members(out: Output, name: str) -> None:
    """List a team's members and their roles."""
    with opened() as registry:
        found = registry.members(name)
    out.answer({"members": [member_document(one) for one in found]}, lambda: _members(name, found))


def _members(name: str, found: Sequence[Member]) -> None:
    if not found:
        say(f"nobody is in {name}; `adapters team role {name} WHO writer` puts somebody there")
        return
    table(["who", "role", "since (UTC)"], [[one.principal, one.role.value, when(one.since)] for one in found])


@team.command("role", examples=["adapters team role demo local maintainer"])
@_team_argument
@click.argument("who", metavar="WHO", help="somebody who has had a token")
@click.argument(
    "role",
    metavar="ROLE",
    type=click.Choice([*(role.value for role in Role), _NOBODY]),
    help="reader, evaluator, writer, maintainer or owner; none takes them out",
)
def role(out: Output, name: str, who: str, role: str) -> None:
    """Give somebody a role in a team, or take them out of it.

    A reader looks and pulls, an evaluator also records measurements, a writer also pushes and yanks, a maintainer also
    moves aliases, an owner also decides who is in the team and revokes versions.
    """
    with opened() as registry:
        found = registry.set_role(name, who, None if role == _NOBODY else Role(role))
    out.answer({"members": [member_document(one) for one in found]}, lambda: _members(name, found))


@team.command("visibility", examples=["adapters team visibility demo public"])
@_team_argument
@click.argument("visibility", metavar="VISIBILITY", type=click.Choice(["public", "private"]), help="public or private")
def visibility(out: Output, name: str, visibility: str) -> None:
    """Let whoever has a token read a team, or its members only."""
    with opened() as registry:
        found = registry.set_visibility(name, public=visibility == "public")
    out.answer(team_document(found), lambda: _describe(found))
