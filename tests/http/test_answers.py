"""Kept answers: never older than the registry on one machine (for others: test_two_machines.py), nobody else's."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3

from registry.blobs.filesystem import FolderStore
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.http.answers import Desk
from registry.http.shelf import LARGEST, MOST, Answer, Shelf
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client, Server
from tests.http.processes import wait_until_up, worker_process

NAME = AdapterName("ours", "a")
PRODUCTION = "/v1/adapters/ours/a/resolve?ref=production"


def versions(registry: Registry, folder: Path, count: int = 2) -> None:
    registry.add_base(TOY, toy_base())
    for seed in range(count):
        registry.push_folder(write_adapter(folder / str(seed), seed=seed), Submission(name=NAME, files=()))
    registry.promote(Reference.parse("ours/a@v1"), "production")


@pytest.fixture
def filled(server: Server, tmp_path: Path) -> Server:
    versions(server.registry, tmp_path)
    return server


def test_a_tag_is_of_the_bytes_and_whoever_has_them_gets_304(filled: Server) -> None:
    client = filled.client()
    for _ in range(3):  # computed, then kept
        first = client.get(PRODUCTION)
        again = client.get(PRODUCTION, headers={"If-None-Match": f'"other", W/{first.headers["ETag"]}'})
        assert (first.status, again.status, again.data) == (200, 304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert client.get(PRODUCTION, headers={"If-None-Match": '"other"'}).data == first.data
    filled.registry.promote(Reference.parse("ours/a@v2"), "production")
    moved = client.get(PRODUCTION, headers={"If-None-Match": first.headers["ETag"]})
    assert (moved.status, moved.json()["version"], moved.json()["seq"]) == (200, 2, 2)


def test_only_what_a_digest_or_a_commit_stands_for_is_immutable(filled: Server) -> None:
    client = filled.client()
    found = client.get(PRODUCTION).json()
    for ref, fixed in ((found["digest"], True), (found["commit"], True), ("v1", False), ("production", False)):
        control = client.get(f"/v1/adapters/ours/a/resolve?ref={ref}").headers["Cache-Control"]
        assert ("immutable" in control, "no-cache" in control) == (fixed, not fixed)


def test_a_version_that_is_revoked_is_gone_at_once(filled: Server) -> None:
    client = filled.client()
    pinned = f"/v1/adapters/ours/a/resolve?ref={client.get(PRODUCTION).json()['digest']}"
    assert [client.get(pinned).status for _ in range(2)] == [200, 200]
    filled.registry.set_status(Reference.parse("ours/a@v1"), Status.REVOKED, reason="leaked", force=True)
    assert client.get(pinned).status == 410


def test_a_tag_tells_of_the_status(filled: Server) -> None:
    client, pinned = filled.client(), "/v1/adapters/ours/a/resolve?ref=v2"
    before = client.get(pinned)
    filled.registry.set_status(Reference.parse("ours/a@v2"), Status.YANKED, reason="repeats itself")
    after = client.get(pinned, headers={"If-None-Match": before.headers["ETag"]})
    assert (after.status, after.json() | {"status": "active"}) == (200, before.json())
    assert (after.json()["status"], after.headers["ETag"] == before.headers["ETag"]) == ("yanked", False)


def test_what_is_not_there_is_found_as_soon_as_it_is(filled: Server, tmp_path: Path) -> None:
    client = filled.client()
    assert [client.get("/v1/adapters/Ours/B/resolve").status for _ in range(3)] == [404] * 3
    filled.registry.push_folder(write_adapter(tmp_path / "b"), Submission(name=AdapterName("ours", "b"), files=()))
    assert [client.get("/v1/adapters/Ours/B/resolve").status for _ in range(3)] == [200] * 3


def test_an_answer_is_kept_for_those_with_the_same_rights_only(filled: Server) -> None:
    reader, other = filled.client("bob", "ours", Role.READER), filled.client("eve")
    assert [client.get(PRODUCTION).status for client in (reader, reader, other, filled.nobody)] == [200, 200, 404, 401]


def test_a_shelf_is_bounded_and_forgets_adapter_by_adapter() -> None:
    shelf = Shelf()
    for number in range(MOST + 5):
        shelf.put((None, b"/", b"%d" % number), Answer(f"ours/{number % 2}", 200, [], b"x"))
    assert len(shelf) == MOST
    even, odd = ((None, b"/", b"%d" % number) for number in (MOST, MOST + 1))
    shelf.forget(["ours/0"])
    assert (shelf.get(even), len(shelf)) == (None, MOST // 2)
    assert shelf.get(odd)
    shelf.forget(None)
    assert (shelf.get(odd), len(shelf)) == (None, 0)


def test_what_is_old_or_large_is_not_kept() -> None:
    shelf, key = Shelf(), (None, b"/", b"")
    shelf.put(key, Answer("ours/a", 200, [], b"x", until=time.monotonic() - 1))
    assert (shelf.get(key), len(shelf)) == (None, 0)
    shelf.put(key, Answer("ours/a", 200, [], bytes(LARGEST + 1)))
    assert len(shelf) == 0


# -- one computation ---------------------------------------------------------------------------------------------------

KEY = (None, b"/v1/adapters/ours/a/resolve", b"")


def test_of_many_who_ask_at_once_one_computes_the_answer(filled: Server) -> None:
    computed = []

    async def compute() -> Answer:
        computed.append(1)
        await asyncio.sleep(0.02)
        return Answer("ours/a", 200, [], b"x")

    async def ask(desk: Desk) -> Answer | None:
        return await desk.found(KEY) or await desk.computed(KEY, "ours/a", compute)

    async def main() -> None:
        desk = Desk(filled.registry)
        await desk.freshness.ensure()
        answers = await asyncio.gather(*(ask(desk) for _ in range(50)))
        assert (len(computed), {id(answer) for answer in answers}) == (1, {id(answers[0])})
        await desk.freshness.close()

    asyncio.run(main())


@pytest.mark.parametrize(("adapter", "kept"), [("ours/a", False), ("ours/other", True)])
def test_what_changed_while_an_answer_was_computed_is_not_kept(filled: Server, adapter: str, kept: bool) -> None:
    async def main() -> None:
        desk = Desk(filled.registry)
        await desk.freshness.ensure()

        async def compute() -> Answer:
            await asyncio.to_thread(filled.registry.promote, Reference.parse("ours/a@v2"), "production")
            await desk.freshness.ensure()
            return Answer(adapter, 200, [], b"x")

        await desk.computed(KEY, adapter, compute)
        assert (await desk.found(KEY) is not None) == kept
        await desk.freshness.close()

    asyncio.run(main())


# -- several workers --------------------------------------------------------------------------------------------------

Start = Callable[[], str]


@pytest.fixture
def worker(tmp_path: Path, database_url: str) -> Iterator[Start]:
    """Start worker processes on one database."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(worker_process(database_url, tmp_path / "blobs"))


def _answers(client: Client) -> int:
    return int(client.get(PRODUCTION).json()["version"])


def test_every_worker_of_a_machine_answers_with_what_was_acknowledged(
    worker: Start, database_url: str, tmp_path: Path
) -> None:
    registry = Registry(Database(database_url), FolderStore(tmp_path / "blobs"))
    versions(registry, tmp_path)
    secret = registry.create_token("test", principal="root", operator=True).secret
    with urllib3.PoolManager() as pool:
        first, second = (Client(worker(), secret, pool) for _ in range(2))
        wait_until_up(first.url, second.url)
        target, seq = 1, 1
        for _ in range(25):
            assert {_answers(client) for client in (first, second, first, second)} == {target}
            target = 3 - target
            move = first.request(
                "PUT",
                "/v1/adapters/ours/a/aliases/production",
                json={"version": target},
                headers={"If-Match": f'"{seq}"'},
            )
            assert move.status == 200, move.data
            seq = move.json()["seq"]
        assert (_answers(second), _answers(first)) == (target, target)
    registry.close()
