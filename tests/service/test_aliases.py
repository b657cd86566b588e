from collections.abc import Callable
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    AliasInUse,
    AliasNotFound,
    BaseConflict,
    NoRollbackTarget,
    NotActive,
    StaleSequence,
)
from registry.domain.records import MoveKind, Status
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from tests.factories import toy_base, write_adapter

NAME = AdapterName("team", "support")
Promote = Callable[[int], int]


def at(number: int) -> Reference:
    return Reference.parse(f"team/support@v{number}")


@pytest.fixture
def stocked(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with four versions of team/support."""
    for seed in range(1, 5):
        registry.push_folder(write_adapter(tmp_path / str(seed), seed=seed), Submission(NAME, ()))
    return registry


def target(registry: Registry, alias: str = "production") -> int:
    return registry.find_version(Reference.parse(f"team/support@{alias}")).number


def test_two_rollbacks_go_two_steps_back(stocked: Registry) -> None:
    for number in (1, 2, 3):
        stocked.promote(at(number), "production")
    assert stocked.rollback(NAME, "production").after == 2
    assert stocked.rollback(NAME, "production").after == 1
    with pytest.raises(NoRollbackTarget):
        stocked.rollback(NAME, "production")
    assert target(stocked) == 1


def test_a_promotion_after_a_rollback_rolls_back_to_where_it_stood(stocked: Registry) -> None:
    for number in (1, 2, 3):
        stocked.promote(at(number), "production")
    stocked.rollback(NAME, "production")
    stocked.promote(at(4), "production")
    assert stocked.rollback(NAME, "production").after == 2


def test_every_move_is_kept_with_its_sequence(stocked: Registry) -> None:
    stocked.promote(at(1), "production", reason="first")
    stocked.promote(at(2), "production")
    stocked.rollback(NAME, "production", reason="worse")
    moves = stocked.history(NAME, "production")
    assert [(m.seq, m.kind, m.before, m.after, m.reason) for m in reversed(moves)] == [
        (1, MoveKind.PROMOTE, None, 1, "first"),
        (2, MoveKind.PROMOTE, 1, 2, None),
        (3, MoveKind.ROLLBACK, 2, 1, "worse"),
    ]


def test_a_stale_sequence_moves_nothing(stocked: Registry) -> None:
    stocked.promote(at(1), "production", expected=0)
    with pytest.raises(StaleSequence) as caught:
        stocked.promote(at(2), "production", expected=0)
    assert caught.value.found == 1
    with pytest.raises(StaleSequence):
        stocked.rollback(NAME, "production", expected=7)
    assert target(stocked) == 1


def test_a_rollback_skips_what_was_withdrawn(stocked: Registry) -> None:
    for number in (1, 2, 3):
        stocked.promote(at(number), "production")
    stocked.set_status(at(2), Status.YANKED, reason="broken")
    assert stocked.rollback(NAME, "production").after == 1


def test_a_rollback_to_a_named_target_pops_down_to_it(stocked: Registry) -> None:
    for number in (1, 2, 3, 4):
        stocked.promote(at(number), "production")
    assert stocked.rollback(NAME, "production", to=at(2)).after == 2
    assert stocked.rollback(NAME, "production").after == 1
    with pytest.raises(NoRollbackTarget):
        stocked.rollback(NAME, "production", to=at(4))


def test_promoting_the_present_target_again_doesnt_deepen_the_stack(stocked: Registry) -> None:
    for number in (1, 2, 2):
        stocked.promote(at(number), "production")
    assert stocked.rollback(NAME, "production").after == 1


def test_a_deleted_alias_keeps_its_counter(stocked: Registry) -> None:
    stocked.promote(at(1), "production")
    assert stocked.delete_alias(NAME, "production").seq == 2
    with pytest.raises(AliasNotFound):
        target(stocked)
    assert stocked.promote(at(2), "production", expected=0).seq == 3
    with pytest.raises(NoRollbackTarget):
        stocked.rollback(NAME, "production")


def test_only_an_active_version_can_be_promoted(stocked: Registry) -> None:
    stocked.set_status(at(1), Status.YANKED, reason="broken")
    with pytest.raises(NotActive):
        stocked.promote(at(1), "production")


def test_an_aliass_target_is_not_yanked_by_accident(stocked: Registry) -> None:
    stocked.promote(at(1), "production")
    with pytest.raises(AliasInUse) as caught:
        stocked.set_status(at(1), Status.YANKED, reason="broken")
    assert "production" in caught.value.aliases
    stocked.set_status(at(1), Status.YANKED, reason="broken", force=True)
    with pytest.raises(NotActive):
        target(stocked)


def test_an_alias_moves_across_bases_only_when_told(stocked: Registry, tmp_path: Path) -> None:
    stocked.add_base("toys/toy-2", toy_base("other weights"))
    folder = write_adapter(tmp_path / "other", seed=9)
    stocked.push_folder(folder, Submission(NAME, (), base=BaseClaim("toys/toy-2")))
    stocked.promote(at(1), "production")
    with pytest.raises(BaseConflict):
        stocked.promote(at(5), "production")
    assert stocked.promote(at(5), "production", across_bases=True).after == 5


def test_what_isnt_there_is_said_by_name(stocked: Registry) -> None:
    with pytest.raises(AliasNotFound):
        stocked.rollback(NAME, "production")
    with pytest.raises(AdapterNotFound):
        stocked.rollback(AdapterName("team", "nothing"), "production")
    with pytest.raises(AdapterNotFound):
        stocked.history(AdapterName("team", "nothing"))


def test_every_change_is_an_event_in_order(stocked: Registry) -> None:
    stocked.promote(at(1), "production")
    with stocked.database.reading() as catalog:
        events = catalog.events.since(0)
    assert [event.cursor for event in events] == sorted(event.cursor for event in events)
    assert [event.kind for event in events] == ["base.added", "team.created", *["commit.added"] * 4, "alias.moved"]
