"""Files made of xorbs: of the team's own and of nothing else, right or not at all, and no second copy of them."""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from registry.domain.errors import (
    AdaptersError,
    DigestMismatch,
    InvalidFile,
    NotAllowed,
    QuotaExceeded,
    TeamNotFound,
    UnknownXorb,
    WrongUsage,
)
from registry.domain.quotas import Quota
from registry.domain.rights import Role
from registry.service import Registry, rebuilding, shelf, xorbs
from registry.service.uploads import KEPT
from tests.service.jobs import Clock, member, once
from tests.xet.packing import Packed, Part, file_records, shard, xorb

CHUNKS = [bytes([65 + number]) * (number + 1) for number in range(8)]
ONE = xorb(CHUNKS[:5], scheme=1)
TWO = xorb(CHUNKS[5:], scheme=2)
WHOLE = [Part(ONE, 0, 5), Part(TWO, 0, 3)]


@pytest.fixture(autouse=True)
def teams(registry: Registry) -> None:
    for team in ("ours", "theirs"):
        registry.create_team(team)


def send(registry: Registry, *packs: Packed, team: str = "ours") -> list[bool]:
    return [registry.keep_xorb(team, one.name, io.BytesIO(one.sent)) for one in packs]


def make(registry: Registry, data: bytes, team: str = "ours") -> None:
    registry.take_shard(team, registry.xorb_epoch(team), io.BytesIO(data), size=len(data))


def plain(parts: Sequence[Part]) -> bytes:
    return b"".join(part.plain for part in parts)


def content(registry: Registry, parts: Sequence[Part]) -> bytes:
    with registry.blobs.open(hashlib.sha256(plain(parts)).hexdigest()) as stream:
        return stream.read()


def has(registry: Registry, parts: Sequence[Part], team: str = "ours") -> bool:
    sha256 = hashlib.sha256(plain(parts)).hexdigest()
    with registry.database.reading() as catalog:
        return catalog.blobs.possessed(team, [sha256]) == {sha256}


def assert_nothing_came_of_it(registry: Registry, team: str = "ours") -> None:
    """No blob, nobody's file, no upload that counts."""
    assert list(registry.blobs.list()) == []
    usage = registry.quota(team).usage
    assert (usage.uploads, usage.incoming) == (0, 0)


def staged(registry: Registry) -> int:
    return len(list(registry.blobs.staged()))


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
def test_a_xorb_that_is_not_what_its_name_says_is_refused_and_nothing_is_kept(registry: Registry) -> None:
    for sent in (TWO.sent, ONE.sent[:-1], b""):
        with pytest.raises(InvalidFile):
            registry.keep_xorb("ours", ONE.name, io.BytesIO(sent))
    with pytest.raises(WrongUsage):
        registry.keep_xorb("ours", "../../x", io.BytesIO(ONE.sent))
    assert staged(registry) == 0
    with pytest.raises(UnknownXorb):
        make(registry, shard([file_records([Part(ONE, 0, 5)])]))


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
def test_who_may_not_write_to_a_team_may_not_send_anything(registry: Registry) -> None:
    for role, error in ((Role.READER, NotAllowed), (None, TeamNotFound)):
        bob = member(registry, f"bob-{role}", **({"ours": role} if role else {"theirs": Role.OWNER}))
        with pytest.raises(error):
            bob.xorb_epoch("ours")
        with pytest.raises(error):
            send(bob, ONE)
        data = shard([])
        with pytest.raises(error):
            bob.take_shard("ours", "any", io.BytesIO(data), size=len(data))
    assert staged(registry) == 0


# -- what clients remember --------------------------------------------------------------------------------------------


def test_a_client_that_names_what_is_not_there_is_told_to_forget(registry: Registry) -> None:
    before = registry.xorb_epoch("ours")
    assert registry.xorb_epoch("OURS") == before
    with pytest.raises(UnknownXorb):
        make(registry, shard([file_records(WHOLE)]))
    after = registry.xorb_epoch("ours")
    assert after != before
    data = shard([file_records(WHOLE)])
    with pytest.raises(UnknownXorb):  # it goes on in the epoch of before, which has ended already
        registry.take_shard("ours", before, io.BytesIO(data), size=len(data))
    assert registry.xorb_epoch("ours") == after


@once
def test_xorbs_that_wait_too_long_are_forgotten_and_their_clients_told(registry: Registry, clock: Clock) -> None:
    send(registry, ONE, TWO)
    make(registry, shard([file_records([Part(ONE, 0, 5), Part(TWO, 0, 1)])], [ONE, TWO]))
    before = registry.xorb_epoch("ours")
    clock.now += KEPT / 2
    registry.expire_uploads()
    assert staged(registry) == 1
    clock.now += KEPT
    registry.expire_uploads()
    assert staged(registry) == 0
    assert registry.xorb_epoch("ours") != before
    make(registry, shard([file_records([Part(ONE, 1, 5)])]))  # of this one all chunks are in a file
    with pytest.raises(UnknownXorb):
        make(registry, shard([file_records([Part(TWO, 0, 1)])]))


@once
def test_what_no_client_remembers_any_more_is_forgotten(registry: Registry, clock: Clock) -> None:
    send(registry, ONE, TWO)
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    epoch = registry.xorb_epoch("ours")
    clock.now += xorbs.REMEMBERED - timedelta(days=1)
    assert send(registry, ONE) == [False]  # of this one a client hears again
    clock.now += timedelta(days=2)
    registry.expire_uploads()
    assert send(registry, ONE, TWO) == [False, True]
    assert registry.xorb_epoch("ours") == epoch  # nobody has to be told


def test_a_blob_that_is_gone_takes_along_what_refers_to_it(registry: Registry) -> None:
    send(registry, ONE, TWO)
    make(registry, shard([file_records(WHOLE)], [ONE, TWO]))
    before = registry.xorb_epoch("ours")
    registry.blobs.delete(hashlib.sha256(plain(WHOLE)).hexdigest())
    later = shard([file_records([Part(ONE, 0, 2)])])
    with pytest.raises(UnknownXorb):
        make(registry, later)
    assert registry.xorb_epoch("ours") != before
    assert send(registry, ONE) == [True]
    make(registry, later)
    assert content(registry, [Part(ONE, 0, 2)]) == b"ABB"


# -- how much ---------------------------------------------------------------------------------------------------------


@once
def test_no_more_waits_than_a_team_has_room_for(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.set_quota("ours", Quota(bytes=len(ONE.plain) + 5))
    send(registry, ONE)
    with pytest.raises(QuotaExceeded):
        send(registry, TWO)
    registry.set_quota("ours", Quota())
    monkeypatch.setattr(xorbs, "MOST_STAGED", len(ONE.plain) + len(TWO.plain))
    send(registry, TWO)
    with pytest.raises(QuotaExceeded):
        send(registry, xorb([b"one more"]))
    assert staged(registry) == 2


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
