"""Files made of xorbs: of the team's own and of nothing else, right or not at all, and no second copy of them."""

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from registry.domain.errors import (
    AdaptersError,
    DigestMismatch,
    InvalidFile,
    QuotaExceeded,
    UnknownXorb,
)
from registry.domain.quotas import Quota
from registry.service import Registry, rebuilding, shelf
from tests.service.jobs import once
from tests.service.sending import ONE, TWO, WHOLE, assert_nothing_came_of_it, content, has, make, plain, send, staged
from tests.xet.packing import Packed, Part, file_records, shard, xorb


@pytest.fixture(autouse=True)
def teams(registry: Registry) -> None:
    for team in ("ours", "theirs"):
        registry.create_team(team)


def test_a_file_is_made_of_its_chunks_and_no_second_copy_of_them_stays(registry: Registry) -> None:
    assert send(registry, ONE, TWO) == [True, True]
    assert staged(registry) == 2
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    assert content(registry, WHOLE) == plain(WHOLE)
    assert has(registry, WHOLE)
    assert staged(registry) == 0
    assert registry.quota("ours").usage.incoming == len(plain(WHOLE))


def test_a_later_file_may_name_xorbs_whose_bytes_are_gone(registry: Registry) -> None:
    send(registry, ONE, TWO)
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    new = xorb([b"something new"])
    later = [Part(TWO, 1, 3), Part(new, 0, 1), Part(ONE, 0, 5), Part(ONE, 2, 3)]
    send(registry, new)
    make(registry, shard([file_records(later)], [new]))
    assert content(registry, later) == plain(later)
    assert send(registry, ONE, new) == [False, False]  # sent again in vain
    assert staged(registry) == 0


def test_files_share_a_xorb_and_what_no_file_has_waits(registry: Registry) -> None:
    send(registry, ONE)
    some = [[Part(ONE, 0, 2)], [Part(ONE, 3, 4), Part(ONE, 1, 2)]]
    make(registry, shard([file_records(parts) for parts in some], [ONE]))
    assert staged(registry) == 1
    rest = [Part(ONE, 2, 5)]
    make(registry, shard([file_records(rest)]))
    assert staged(registry) == 0
    again = [Part(ONE, 0, 5), Part(ONE, 0, 5)]  # out of three blobs
    make(registry, shard([file_records(again)]))
    for parts in (*some, rest, again):
        assert content(registry, parts) == plain(parts)


def test_a_chunk_that_comes_again_before_its_xorb_goes_on_hides_nothing(registry: Registry) -> None:
    send(registry, ONE)
    parts = [Part(ONE, 0, 1), Part(ONE, 0, 1), Part(ONE, 0, 5)]
    make(registry, shard([file_records(parts)], [ONE]))
    assert staged(registry) == 0
    rest = [Part(ONE, 1, 5), Part(ONE, 0, 2)]
    make(registry, shard([file_records(rest)]))
    assert content(registry, rest) == plain(rest)


def test_a_shard_sent_twice_or_at_once_makes_its_files_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "_WAIT", 0.01)
    send(registry, ONE, TWO)
    data = shard([file_records(WHOLE)], [ONE, TWO])
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: make(registry, data), range(4)))
    make(registry, data)
    assert content(registry, WHOLE) == plain(WHOLE)
    assert [stat.size for stat in registry.blobs.list()] == [len(plain(WHOLE))]
    assert staged(registry) == 0


@once
@pytest.mark.parametrize(
    ("data", "error"),
    [
        pytest.param(shard([file_records(WHOLE, sha256="ab" * 32)], [ONE, TWO]), DigestMismatch, id="a sha256"),
        pytest.param(shard([file_records([Part(ONE, 0, 5, size=14)])]), InvalidFile, id="a length"),
        pytest.param(shard([file_records([Part(ONE, 0, 6, size=15)])]), InvalidFile, id="a range"),
        pytest.param(shard([file_records([Part(xorb([b"?"]), 0, 1)])]), UnknownXorb, id="a xorb"),
        pytest.param(shard([], [xorb([b"?"])]), UnknownXorb, id="a xorb that it tells of"),
        pytest.param(shard([], [Packed(ONE.name, ONE.sent, ONE.chunks[:2])]), InvalidFile, id="how many chunks"),
        pytest.param(shard([file_records(WHOLE)], [ONE, TWO])[:-60], InvalidFile, id="its end"),
    ],
)
def test_a_shard_that_lies_is_refused_and_nothing_is_kept(
    registry: Registry, data: bytes, error: type[AdaptersError]
) -> None:
    send(registry, ONE, TWO)
    with pytest.raises(error):
        make(registry, data)
    assert_nothing_came_of_it(registry)
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))  # nor is anything spoilt
    assert content(registry, WHOLE) == plain(WHOLE)


@once
def test_a_file_that_repeats_a_little_without_end_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "MOST_REPEATED", 100)
    send(registry, ONE)
    with pytest.raises(InvalidFile, match="repeats itself"):
        make(registry, shard([file_records([Part(ONE, 0, 5)] * 9)]))
    make(registry, shard([file_records([Part(ONE, 0, 5)] * 7)]))
    assert has(registry, [Part(ONE, 0, 5)] * 7)


def test_the_name_of_anothers_xorb_is_worth_nothing(registry: Registry) -> None:
    send(registry, ONE, TWO)
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    with pytest.raises(UnknownXorb):
        make(registry, shard([file_records(WHOLE)], [ONE, TWO]), "theirs")
    assert not has(registry, WHOLE, "theirs")
    assert send(registry, ONE, TWO, team="theirs") == [True, True]  # all of it, again
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]), "theirs")
    assert has(registry, WHOLE, "theirs")
    assert len(list(registry.blobs.list())) == 1


@once
def test_a_file_beyond_the_quota_is_refused_before_it_is_made(registry: Registry) -> None:
    send(registry, ONE, TWO)
    registry.set_quota("ours", Quota(bytes=len(plain(WHOLE)) - 1))
    with pytest.raises(QuotaExceeded):
        make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    assert_nothing_came_of_it(registry)


@once
def test_whoever_watches_is_told_how_far_it_is_and_can_end_it(registry: Registry) -> None:
    class Enough(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def watch(made: int, of: int) -> None:
        seen.append((made, of))
        if made == 15:
            raise Enough

    send(registry, ONE, TWO)
    data = shard([file_records(WHOLE)], [ONE, TWO])
    epoch = registry.xorb_epoch("ours")
    with pytest.raises(Enough):
        registry.take_shard("ours", epoch, io.BytesIO(data), size=len(data), watch=watch)
    assert_nothing_came_of_it(registry)
    registry.take_shard("ours", epoch, io.BytesIO(data), size=len(data), watch=lambda *one: seen.append(one))
    assert seen == [(15, 36), (15, 36), (36, 36)]


@once
def test_more_xorbs_than_are_kept_in_mind_are_looked_up_again(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "_ROOM", 4)
    monkeypatch.setattr(rebuilding, "_SPANS_AT_ONCE", 2)
    send(registry, ONE, TWO)
    parts = [Part(one, first, first + 1) for first in range(3) for one in (ONE, TWO)] * 2 + [Part(ONE, 3, 5)]
    make(registry, shard([file_records(parts)], [ONE, TWO]))
    assert content(registry, parts) == plain(parts)
    assert staged(registry) == 0
