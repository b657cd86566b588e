"""team create, list, members, role, visibility and quota."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Output, facts, next_step, say, table
from cli.text import human_size, when
from registry.domain.documents import member_document, team_document
from registry.domain.quotas import Account, account_document
from registry.domain.records import Member, Namespace
from registry.domain.rights import Role

_NOBODY = "none"
_WITHOUT = -1
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,3})?)\s?(|kB|MB|GB|TB)", re.IGNORECASE | re.ASCII)
_UNITS = ("", "kb", "mb", "gb", "tb")


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


class Limit(click.ParamType[int]):
    """A number, bytes with their unit (10GB), or none (-1 in here)."""

    name = "N|none"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.lower() == _NOBODY:
            return _WITHOUT
        match = _AMOUNT.fullmatch(value)
        if match is None or (match[2] and (param is None or param.name != "bytes")):
            self.fail(f"{value!r} is no limit: write a number, or none; bytes may have a unit, as 10GB", param, ctx)
        return round(float(match[1]) * 1000.0 ** _UNITS.index(match[2].lower()))


@team.command("quota", examples=["adapters team quota demo --bytes 10GB --versions 5000"])
@_team_argument
@click.option("--bytes", type=Limit(), metavar="N[kB|MB|GB|TB]", help="How much content it may keep; none: any.")
@click.option("--versions", type=Limit(), help="How many versions it may have.")
@click.option("--adapters", type=Limit(), help="How many adapters it may have.")
@click.option("--uploads", type=Limit(), help="How many files may be on their way in at once.")
def quota(out: Output, name: str, **given: int | None) -> None:
    """Show what a team keeps and may keep, or set it.

    Only those who run the registry may set limits; those that aren't given stay. A content counts once however often
    the team has it, and whoever else has it; deleted adapters count for nothing.
    """
    wanted = {what: limit for what, limit in given.items() if limit is not None}
    with opened() as registry:
        account = registry.quota(name)
        if wanted:
            limits = {what: None if limit == _WITHOUT else limit for what, limit in wanted.items()}
            account = registry.set_quota(name, replace(account.quota, **limits))
    out.answer(account_document(account), lambda: _account(account))


def _account(account: Account) -> None:
    rows = []
    for what, line in account_document(account).items():
        if isinstance(line, dict):
            show = human_size if what == "bytes" else "{:,}".format
            rows.append([what, show(line["used"]), "none" if line["limit"] is None else show(line["limit"])])
    table([account.team, "used", "limit"], rows, numbers=["used", "limit"])
    if account.usage.incoming:
        say(f"and {human_size(account.usage.incoming)} of uploads that no version holds yet")
