"""Who gets in, and what they may do there: tokens, roles, and what nobody from elsewhere can tell."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    AdaptersError,
    NotAllowed,
    NotAuthenticated,
    TeamNotFound,
    TokenNotFound,
)
from registry.domain.records import SearchQuery, Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import SCOPES_OF, Role, Scope
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.tables.events import events
from tests.factories import write_adapter

OURS, THEIRS = AdapterName("ours", "a"), AdapterName("theirs", "a")


def push(registry: Registry, folder: Path, name: AdapterName, seed: int = 0) -> None:
    registry.push_folder(write_adapter(folder / f"{name.team}{seed}", seed=seed), Submission(name=name, files=()))


def caller_of(registry: Registry, principal: str, team: str | None = None, role: Role = Role.READER) -> Registry:
    """The registry as a principal with a new token, and with a role in a team."""
    secret = registry.create_token("test", principal=principal).secret
    if team:
        registry.set_role(team, principal, role)
    return registry.on_behalf_of(registry.authenticate(secret))


@pytest.fixture
def peopled(registry: Registry, tmp_path: Path) -> Registry:
    """Two teams with an adapter each."""
    push(registry, tmp_path, OURS)
    push(registry, tmp_path, THEIRS, seed=1)
    return registry


def test_a_token_is_kept_as_its_digest_only(registry: Registry) -> None:
    secret = registry.create_token("laptop").secret
    assert registry.authenticate(secret).operator is False
    with registry.database.reading() as catalog:
        kept = repr(catalog.tokens.list()) + repr(catalog.events.since(0))
    assert secret not in kept


def test_an_operators_token_makes_an_operator(registry: Registry) -> None:
    secret = registry.create_token("root", principal="ann", operator=True).secret
    assert registry.authenticate(secret).operates
    narrow = registry.create_token("ci", principal="ann", scopes=[Scope.READ]).secret
    assert not registry.authenticate(narrow).operates


@pytest.mark.parametrize("wrong", ["", "adp_", "adp_nothing", "' OR 1=1 --"])
def test_an_unknown_token_is_nobodys(registry: Registry, wrong: str) -> None:
    with pytest.raises(NotAuthenticated):
        registry.authenticate(wrong)


def test_a_revoked_or_expired_token_is_nobodys(registry: Registry) -> None:
    made = registry.create_token("laptop")
    registry.revoke_token(made.token.id)
    short = registry.create_token("short", lifetime=timedelta(hours=1))
    registry.clock = lambda: datetime.now(UTC) + timedelta(hours=2)
    for secret in (made.secret, short.secret):
        with pytest.raises(NotAuthenticated):
            registry.authenticate(secret)


def test_nobody_revokes_what_is_not_theirs(registry: Registry) -> None:
    token = registry.create_token("laptop").token
    bob = caller_of(registry, "bob")
    with pytest.raises(TokenNotFound):
        bob.revoke_token(token.id)
    assert [mine.principal for mine in bob.tokens()] == ["bob"]


def test_a_narrow_token_makes_no_wider_one(registry: Registry) -> None:
    registry.create_team("ours")
    registry.create_token("first", principal="bob")
    registry.set_role("ours", "bob", Role.OWNER)
    secret = registry.create_token("narrow", principal="bob", scopes=[Scope.READ], teams=["ours"]).secret
    bob = registry.on_behalf_of(registry.authenticate(secret))
    with pytest.raises(NotAllowed):
        bob.create_token("wide", scopes=[Scope.WRITE])
    made = bob.create_token("same").token
    assert (made.scopes, made.teams) == ((Scope.READ,), ("ours",))
    with pytest.raises(NotAllowed):
        bob.create_token("for another", principal="ann")


def _calls(name: AdapterName) -> dict[str, tuple[Scope, Callable[[Registry], Any]]]:
    reference = Reference.parse(f"{name}@v1")
    return {
        "find": (Scope.READ, lambda r: r.find(reference)),
        "peek": (Scope.READ, lambda r: r.peek(reference)),
        "resolve": (Scope.READ, lambda r: r.resolve(reference)),
        "adapter": (Scope.READ, lambda r: r.adapter(name)),
        "versions": (Scope.READ, lambda r: r.versions(name)),
        "aliases": (Scope.READ, lambda r: r.aliases(name)),
        "history": (Scope.READ, lambda r: r.history(name)),
        "evaluate": (Scope.EVALUATE, lambda r: r.evaluate(reference, {"f1": 0.5})),
        "promote": (Scope.PROMOTE, lambda r: r.promote(reference, "production")),
        "yank": (Scope.WRITE, lambda r: r.set_status(reference, Status.YANKED, reason="x", force=True)),
        "release": (Scope.WRITE, lambda r: r.set_status(reference, Status.ACTIVE, reason="x")),
        "delete alias": (Scope.PROMOTE, lambda r: r.delete_alias(name, "production")),
        "revoke": (Scope.ADMIN, lambda r: r.set_status(reference, Status.REVOKED, reason="x", force=True)),
    }


CALLS = sorted(_calls(OURS))


@pytest.mark.parametrize("role", list(Role))
def test_every_role_may_do_what_it_is_for_and_nothing_else(peopled: Registry, role: Role) -> None:
    bob = caller_of(peopled, "bob", "ours", role)
    for scope, call in _calls(OURS).values():
        if scope in SCOPES_OF[role]:
            call(bob)
        else:
            with pytest.raises(NotAllowed):
                call(bob)


@pytest.mark.parametrize("what", CALLS)
def test_what_is_not_yours_answers_like_what_is_not_there(peopled: Registry, what: str) -> None:
    bob = caller_of(peopled, "bob", "ours", Role.OWNER)
    answers = []
    for name in (THEIRS, AdapterName("absent", "a")):
        with pytest.raises(AdapterNotFound) as refused:
            _calls(name)[what][1](bob)
        answers.append(_told(refused.value, name))
    assert answers[0] == answers[1]


def _told(error: AdaptersError, name: AdapterName) -> tuple[str, str, str]:
    return error.code, error.message.replace(name.team, "TEAM"), error.hint.replace(name.team, "TEAM")


def test_a_push_needs_the_right_to_write_and_tells_no_team(peopled: Registry, tmp_path: Path) -> None:
    reader = caller_of(peopled, "bob", "ours")
    with pytest.raises(NotAllowed):
        push(reader, tmp_path, OURS, seed=2)
    for team in ("theirs", "absent"):
        with pytest.raises(TeamNotFound):
            push(reader, tmp_path, AdapterName(team, "a"), seed=2)
    writer = caller_of(peopled, "ann", "ours", Role.WRITER)
    push(writer, tmp_path, OURS, seed=3)
    assert peopled.find_version(Reference.parse("ours/a")).author == "ann"


def test_listings_and_search_show_what_one_may_see(peopled: Registry) -> None:
    bob = caller_of(peopled, "bob", "ours")
    assert [a.name for a in bob.adapters().items] == [OURS]
    assert [a.name for a, _ in bob.listing().items] == [OURS]
    assert [v.adapter for v in bob.search(SearchQuery()).items] == [OURS]
    assert [t.name for t in bob.teams()] == ["ours"]
    peopled.set_visibility("theirs", public=True)
    assert [a.name for a in bob.adapters().items] == [OURS, THEIRS]
    assert {v.adapter for v in bob.search(SearchQuery()).items} == {OURS, THEIRS}
    assert bob.find_version(Reference(THEIRS)).adapter == THEIRS
    with pytest.raises(NotAllowed):
        bob.promote(Reference.parse("theirs/a@v1"), "production")


def test_a_token_of_one_team_sees_no_other(peopled: Registry) -> None:
    peopled.set_visibility("theirs", public=True)
    secret = peopled.create_token("ci", principal="root", operator=True, teams=["ours"]).secret
    ci = peopled.on_behalf_of(peopled.authenticate(secret))
    assert [a.name for a in ci.adapters().items] == [OURS]
    with pytest.raises(AdapterNotFound):
        ci.find_version(Reference(THEIRS))
    with pytest.raises(NotAllowed):
        ci.create_team("new")


def test_only_operators_run_the_registry(peopled: Registry) -> None:
    owner = caller_of(peopled, "bob", "ours", Role.OWNER)
    for call in (lambda: owner.create_team("new"), owner.audit, owner.verify_audit, owner.verify):
        with pytest.raises(NotAllowed):
            call()
    with pytest.raises(TeamNotFound):
        owner.set_role("theirs", "bob", Role.OWNER)
    with pytest.raises(TeamNotFound):
        owner.members("theirs")


def test_the_audit_log_says_who_did_what(peopled: Registry) -> None:
    ann = caller_of(peopled, "ann", "ours", Role.MAINTAINER)
    ann.promote(Reference.parse("ours/a@v1"), "production")
    last = peopled.audit()[-1]
    assert (last.kind, last.actor, last.payload["alias"]) == ("alias.moved", "ann", "production")
    check = peopled.verify_audit()
    assert check.broken == ()
    assert check.lines == last.cursor


def test_a_team_is_told_of_once_and_before_all_else_however_it_came_to_be(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path, AdapterName("pushed", "a"))
    registry.begin_upload("uploaded", "0" * 64, 5)
    registry.create_team("made", public=True)
    registry.create_team("made", public=True)
    registry.create_team("made")
    told = [
        (event.kind, event.payload["team"], event.payload["public"])
        for event in registry.audit()
        if "team" in event.kind
    ]
    assert told == [
        ("team.created", "pushed", False),
        ("team.created", "uploaded", False),
        ("team.created", "made", True),
        ("team.visibility", "made", False),
    ]


def test_a_team_that_a_refused_transaction_made_is_not_told_of(registry: Registry) -> None:
    with pytest.raises(RuntimeError), registry.database.writing() as catalog:
        catalog.adapters.ensure(OURS, actor="ann", at=registry.clock())
        raise RuntimeError
    with registry.database.writing() as catalog:
        catalog.adapters.ensure(OURS, actor="bob", at=registry.clock())
        catalog.events.append("adapter.created", OURS, {}, actor="bob")
    assert [(event.kind, event.actor) for event in registry.audit()][-2:] == [
        ("team.created", "bob"),
        ("adapter.created", "bob"),
    ]


@pytest.mark.parametrize("tampering", ["actor", "deleted", "cut"])
def test_a_changed_audit_log_is_noticed(peopled: Registry, tampering: str) -> None:
    lines = peopled.verify_audit().lines
    with peopled.database.connection(adapters_writes=True) as connection, connection.begin():
        if tampering == "actor":
            connection.execute(events.update().where(events.c.cursor == 2).values(actor="somebody else"))
        else:
            connection.execute(events.delete().where(events.c.cursor == (2 if tampering == "deleted" else lines)))
    assert peopled.verify_audit().broken != ()
