"""Aliases: a register that counts its moves, a stack, a history."""

from dataclasses import replace

import pytest
from sqlalchemy import event

from registry.domain.errors import AdapterNotFound, AliasNotFound, DatabaseFailure, StaleSequence
from registry.domain.records import Alias, AliasMove, MoveKind
from registry.domain.reference import AdapterName
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, promote, publish


def _publish(database: Database, count: int) -> None:
    with database.writing() as catalog:
        for number in range(count):
            publish(catalog, f"content {number}")


def _roll_back(database: Database, kept: int) -> Alias:
    with database.writing() as catalog:
        register = catalog.aliases.lock(NAME, "production", actor="bob", at=at())
        stack = catalog.aliases.stack(NAME, "production")[:kept]
        kind, after = MoveKind.ROLLBACK, stack[-1]
        move = AliasMove(NAME, "production", register.seq + 1, kind, register.version, after, "bob", "worse", at(9))
        return catalog.aliases.apply(move, stack)


def test_a_new_alias_begins_at_zero_and_points_nowhere(database: Database) -> None:
    _publish(database, 1)
    with database.writing() as catalog:
        assert catalog.aliases.lock(NAME, "production", actor="ann", at=at()) == Alias(
            NAME, "production", None, 0, "ann", at()
        )
    with database.reading() as catalog:
        assert catalog.aliases.find(NAME, "production") is None
        assert catalog.aliases.list(NAME) == []


def test_moves_are_counted_and_two_rollbacks_go_two_steps_back(database: Database) -> None:
    _publish(database, 3)
    with database.writing() as catalog:
        for number in (1, 2, 3):
            promote(catalog, number)
    assert _roll_back(database, 2).version == 2
    rolled = _roll_back(database, 1)
    assert (rolled.version, rolled.seq) == (1, 5)
    with database.reading() as catalog:
        assert catalog.aliases.find(NAME, "production") == rolled
        assert catalog.aliases.stack(NAME, "production") == [1]
        history = catalog.aliases.history(NAME, "production")
    assert [(move.seq, move.kind, move.before, move.after) for move in history] == [
        (5, MoveKind.ROLLBACK, 2, 1),
        (4, MoveKind.ROLLBACK, 3, 2),
        (3, MoveKind.PROMOTE, 2, 3),
        (2, MoveKind.PROMOTE, 1, 2),
        (1, MoveKind.PROMOTE, None, 1),
    ]
    assert (history[0].actor, history[0].reason, history[0].at) == ("bob", "worse", at(9))


def test_deleting_keeps_the_counter_and_the_history(database: Database) -> None:
    _publish(database, 1)
    with database.writing() as catalog:
        promote(catalog, 1)
        promote(catalog, None)
        assert catalog.aliases.find(NAME, "production") is None
        assert catalog.aliases.stack(NAME, "production") == []
        assert promote(catalog, 1).seq == 3
        assert len(catalog.aliases.history(NAME)) == 3


def test_a_move_that_is_not_the_next_is_stale_and_changes_nothing(database: Database) -> None:
    _publish(database, 2)
    with database.writing() as catalog:
        promote(catalog, 1)
    for seq in (0, 1, 3):
        with pytest.raises(StaleSequence), database.writing() as catalog:
            catalog.aliases.lock(NAME, "production", actor="ann", at=at())
            move = AliasMove(NAME, "production", seq, MoveKind.PROMOTE, 1, 2, "ann", None, at())
            catalog.aliases.apply(move, [1, 2])
    with database.reading() as catalog:
        assert catalog.aliases.stack(NAME, "production") == [1]


def test_an_alias_can_not_point_to_a_version_that_is_not_there(database: Database) -> None:
    _publish(database, 1)
    with pytest.raises(DatabaseFailure), database.writing() as catalog:
        promote(catalog, 2)


def test_locking_an_alias_of_an_absent_adapter_names_it(database: Database) -> None:
    with pytest.raises(AdapterNotFound, match="demo/absent"), database.writing() as catalog:
        catalog.aliases.lock(AdapterName("demo", "absent"), "production", actor="ann", at=at())


def test_applying_to_an_alias_that_was_never_locked_is_refused(database: Database) -> None:
    _publish(database, 1)
    with pytest.raises(AliasNotFound), database.writing() as catalog:
        catalog.aliases.apply(AliasMove(NAME, "x", 1, MoveKind.PROMOTE, None, 1, "ann", None, at()), [1])


def test_aliases_are_one_whatever_their_case(database: Database) -> None:
    _publish(database, 2)
    with database.writing() as catalog:
        promote(catalog, 1, "Production")
        moved = promote(catalog, 2, "PRODUCTION")
    assert (moved.name, moved.seq) == ("Production", 2)
    with database.reading() as catalog:
        assert catalog.aliases.find(NAME, "production") == moved
        assert [move.alias for move in catalog.aliases.history(NAME, "pRoDuction")] == ["Production"] * 2


def test_who_points_at_a_version_is_known(database: Database) -> None:
    _publish(database, 2)
    with database.writing() as catalog:
        promote(catalog, 1, "staging")
        promote(catalog, 1, "production")
        promote(catalog, 2, "canary")
    with database.reading() as catalog:
        assert catalog.aliases.pointing_at(NAME, 1) == ["production", "staging"]
        assert [(alias.name, alias.version) for alias in catalog.aliases.list(NAME)] == [
            ("canary", 2),
            ("production", 1),
            ("staging", 1),
        ]
        assert [move.alias for move in catalog.aliases.history(NAME, limit=2)] == ["canary", "production"]


def test_a_promotion_on_a_deep_stack_writes_one_row(database: Database) -> None:
    _publish(database, 2)
    with database.writing() as catalog:
        register = catalog.aliases.lock(NAME, "production", actor="ann", at=at())
        move = AliasMove(NAME, "production", 1, MoveKind.PROMOTE, register.version, 2, "ann", None, at())
        catalog.aliases.apply(move, [1, 2] * 5000)
    written: list[object] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_rest: object) -> None:
        if "alias_stack" in statement and not statement.startswith("SELECT"):
            written.append(parameters)

    event.listen(database.engine, "before_cursor_execute", note)
    with database.writing() as catalog:
        promote(catalog, 1)
        assert len(written) == 1
        assert catalog.aliases.stack(NAME, "production") == [*[1, 2] * 5000, 1]


def test_any_stack_replaces_any_other(database: Database) -> None:
    _publish(database, 3)
    stacks = [[1], [1, 2, 3], [1, 2], [3, 2], [], [2, 2, 2], [2, 1, 2], [1]]
    for seq, stack in enumerate(stacks, start=1):
        with database.writing() as catalog:
            catalog.aliases.lock(NAME, "production", actor="ann", at=at())
            after = stack[-1] if stack else None
            move = AliasMove(NAME, "production", seq, MoveKind.PROMOTE, None, after, "ann", None, at())
            applied = catalog.aliases.apply(move, stack)
            assert applied == replace(applied, seq=seq, version=after)
            assert catalog.aliases.stack(NAME, "production") == stack
