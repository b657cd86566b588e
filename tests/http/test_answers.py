"""Kept answers: never older than the registry on one machine (for others: test_two_machines.py), nobody else's."""

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
