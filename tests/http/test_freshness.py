"""How sure a worker is that nothing changed: questions are counted, and the clock is the test's."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import DatabaseFailure
from registry.http.freshness import ASK_EVERY, BOUND, Freshness
from registry.service import Registry
from registry.service.watching import News
from registry.sql.engine import Database
from registry.sql.events import Place


class Watched(Registry):
    """A registry that counts questions about its log. `away`: what happens to a question before it is answered."""

    asked = answered = 0
    away: Callable[[], None] = staticmethod(lambda: None)

    def news(self, since: Place | None) -> News:
        self.asked += 1
        try:
            found = super().news(since)
            self.away()
        finally:
            self.answered += 1
        return found


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Watched]:
    registry = Watched(Database(database_url), FolderStore(tmp_path / "blobs"))
    yield registry
    registry.close()


Test = Callable[[Freshness, Clock, list[News]], Coroutine[Any, Any, None]]


def run(registry: Watched, test: Test) -> None:
    async def main() -> None:
        heard: list[News] = []
        clock = Clock()
        freshness = Freshness(registry, heard.append, clock=clock)
        assert not freshness.holds()
        await freshness.ensure()
        try:
            await test(freshness, clock, heard)
        finally:
            await freshness.close()

    asyncio.run(main())


async def settle(registry: Watched, asked: int) -> None:
    """Wait until so many questions were put, and the last one is answered."""
    while registry.answered < asked:  # noqa: ASYNC110 - it is counted in another thread
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.02)


def test_the_log_is_asked_ahead_of_time_once_however_many_look(registry: Watched) -> None:
    async def test(freshness: Freshness, clock: Clock, _heard: list[News]) -> None:
        assert all(freshness.holds() for _ in range(100))
        assert registry.asked == 1
        for asked in range(2, 5):
            clock.now += ASK_EVERY + 0.01
            assert all(freshness.holds() for _ in range(100))
            await settle(registry, asked)
            assert all(freshness.holds() for _ in range(100))
            assert registry.asked == asked

    run(registry, test)


def test_after_the_bound_everybody_waits_for_one_question(registry: Watched) -> None:
    async def test(freshness: Freshness, clock: Clock, _heard: list[News]) -> None:
        clock.now += BOUND + 0.01
        assert not freshness.holds()
        await asyncio.gather(*(freshness.ensure() for _ in range(50)))
        assert freshness.holds()
        assert registry.asked == 2

    run(registry, test)


def test_a_commit_of_this_machine_is_heard_of_before_anybody_goes_on(registry: Watched) -> None:
    async def test(freshness: Freshness, _clock: Clock, heard: list[News]) -> None:
        for number in range(3):
            await asyncio.to_thread(registry.create_team, f"team{number}")
            assert not freshness.holds()
            await asyncio.gather(*(freshness.ensure() for _ in range(10)))
            assert len(heard) == number + 2
            assert heard[-1].place.cursor == number + 1
        assert registry.asked <= 7

    run(registry, test)


def test_an_answer_is_as_old_as_its_question(registry: Watched) -> None:
    async def test(freshness: Freshness, clock: Clock, _heard: list[News]) -> None:
        def slow() -> None:
            clock.now += BOUND + 0.01

        clock.now += ASK_EVERY + 0.01
        registry.away = slow
        assert freshness.holds()
        await settle(registry, 2)
        assert not freshness.holds()  # it was answered just now, but asked too long ago

    run(registry, test)


def test_nothing_outlives_a_database_that_is_away(registry: Watched) -> None:
    async def test(freshness: Freshness, clock: Clock, _heard: list[News]) -> None:
        def fail() -> None:
            raise DatabaseFailure("it can't be reached")

        registry.away = fail
        clock.now += BOUND - 0.01
        assert freshness.holds()
        await settle(registry, 2)
        assert freshness.holds()
        clock.now += 0.02
        assert not freshness.holds()
        with pytest.raises(DatabaseFailure):
            await freshness.ensure()
        registry.away = lambda: None
        await freshness.ensure()
        assert freshness.holds()

    run(registry, test)


def test_without_marks_every_request_asks_on_its_own(
    registry: Watched, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(type(registry.changes), "mark", lambda _self: None)  # no folder of ours among temporary files

    async def test(freshness: Freshness, _clock: Clock, _heard: list[News]) -> None:
        for asked in range(2, 5):
            assert not freshness.holds()
            await freshness.ensure()
            assert registry.asked == asked

    run(registry, test)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_news_tell_what_may_be_wrong_and_another_log_that_everything_is(registry: Watched, steps: int) -> None:
    for number in range(steps):
        registry.create_team(f"team{number}")
    place = registry.news(None).place
    assert registry.news(place) == News(place, frozenset(), False)
    assert registry.news(Place(place.cursor, "0" * 64)).adapters == (frozenset() if not steps else None)
    assert registry.news(Place(place.cursor + 5, place.chain)).adapters is None
    registry.create_token("ci")
    told = registry.news(place)
    assert (told.adapters, told.callers) == (frozenset(), True)
    registry.set_visibility("team0", public=True) if steps else registry.create_team("team0")
    told = registry.news(place)
    assert (told.adapters, told.callers) == (None, True)
