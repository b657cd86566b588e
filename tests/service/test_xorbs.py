"""Xorbs that a team sends: what they must be, how long they are kept, and how clients hear that they aren't."""

import hashlib
import io
from datetime import timedelta

import pytest

from registry.domain.errors import InvalidFile, NotAllowed, QuotaExceeded, TeamNotFound, UnknownXorb, WrongUsage
from registry.domain.quotas import Quota
from registry.domain.rights import Role
from registry.service import Registry, xorbs
from registry.service.uploads import KEPT
from tests.service.jobs import Clock, member, once
from tests.service.sending import ONE, TWO, WHOLE, content, make, plain, send, staged
from tests.xet.packing import Part, file_records, shard, xorb


@pytest.fixture(autouse=True)
def teams(registry: Registry) -> None:
    for team in ("ours", "theirs"):
        registry.create_team(team)


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
