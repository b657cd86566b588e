"""Servers of two machines on one PostgreSQL: at most a second apart, and silent when the database is.

The bound is held by asking (registry/http/freshness.py, whose tests count the questions); here it is measured.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
import pytest
import urllib3
from sqlalchemy.engine import make_url

from registry.blobs.filesystem import FolderStore
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from tests.conftest import Postgres
from tests.factories import TOY, toy_base, write_adapter
from tests.http.conftest import Client
from tests.http.processes import wait_until_up, worker_process

BOUND = 1.0  # seconds
A = "/v1/adapters/ours/a"
PRODUCTION = f"{A}/resolve?ref=production"


@dataclass(frozen=True)
class Machines:
    """A worker on each of two machines, an operator's client of each, and the database between them."""

    near: Client
    far: Client
    registry: Registry
    postgres: Postgres
    database_url: str

    def move(self, version: int) -> None:
        """Move the alias, over HTTP, on the near machine."""
        seen = self.near.get(f"{A}/aliases/production").headers["ETag"]
        path = f"{A}/aliases/production"
        moved = self.near.request("PUT", path, json={"version": version}, headers={"If-Match": seen})
        assert moved.status == 200, moved.data

    def reader(self) -> tuple[Client, int]:
        """A reader of the team on the far machine, and its token's number."""
        made = self.registry.create_token("reads", principal="bob")
        self.registry.set_role("ours", "bob", Role.READER)
        return Client(self.far.url, made.secret, self.far.pool), made.token.id

    def database(self, *, there: bool) -> None:
        """Let nobody in any more and put out who is, or let everybody in again."""
        name = make_url(self.database_url).database
        plain = make_url(self.database_url).set(drivername="postgresql", database="postgres")
        with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {there}".encode())
            if not there:
                connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))


@pytest.fixture(scope="module")
def machines(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder, url = tmp_path_factory.mktemp("machines"), postgres.create()
    blobs = folder / "blobs"
    registry = Registry(Database(url), FolderStore(blobs))
    registry.add_base(TOY, toy_base())
    for seed in range(2):
        submission = Submission(name=AdapterName("ours", "a"), files=())
        registry.push_folder(write_adapter(folder / str(seed), seed=seed), submission)
    registry.promote(Reference.parse("ours/a@v1"), "production")
    secret = registry.create_token("test", principal="root", operator=True).secret
    with ExitStack() as stack:
        pool = stack.enter_context(urllib3.PoolManager())
        near = stack.enter_context(worker_process(url, blobs))
        far = stack.enter_context(worker_process(url, blobs, machine=folder / "far"))
        wait_until_up(near, far)
        yield Machines(Client(near, secret, pool), Client(far, secret, pool), registry, postgres, url)
    registry.close()
    postgres.drop(url)


def seconds_until(happened: Callable[[], bool]) -> float:
    """How long something took from now; fails when that is longer than the bound."""
    started = time.monotonic()
    while not happened():
        assert time.monotonic() - started < BOUND
    return time.monotonic() - started


def test_a_moved_alias_is_seen_on_the_other_machine_within_the_bound(machines: Machines) -> None:
    for target in (2, 1, 2, 1):
        before = [machines.far.get(PRODUCTION).json()["version"] for _ in range(3)]
        assert before == [3 - target] * 3
        machines.move(target)
        assert machines.near.get(PRODUCTION).json()["version"] == target
        seconds_until(lambda target=target: machines.far.get(PRODUCTION).json()["version"] == target)


def test_a_revoked_token_is_refused_on_the_other_machine_within_the_bound(machines: Machines) -> None:
    reader, token = machines.reader()
    assert [reader.get(PRODUCTION).status for _ in range(3)] == [200] * 3
    assert machines.near.request("DELETE", f"/v1/tokens/{token}").status == 200
    seconds_until(lambda: reader.get(PRODUCTION).status == 401)


def test_a_role_that_is_taken_away_ends_on_the_other_machine_within_the_bound(machines: Machines) -> None:
    reader, _ = machines.reader()
    assert [reader.get(PRODUCTION).status for _ in range(3)] == [200] * 3
    assert machines.near.request("DELETE", "/v1/teams/ours/members/bob").status in (200, 204)
    seconds_until(lambda: reader.get(PRODUCTION).status == 404)


def test_a_withdrawn_version_is_gone_on_the_other_machine_within_the_bound(machines: Machines) -> None:
    pinned = f"{A}/resolve?ref=v2"
    assert [machines.far.get(pinned).status for _ in range(3)] == [200] * 3
    withdrawn = machines.near.request("PATCH", f"{A}/versions/2", json={"status": "revoked", "reason": "leaked"})
    assert withdrawn.status == 200, withdrawn.data
    seconds_until(lambda: machines.far.get(pinned).status == 410)


def test_kept_answers_do_not_outlive_a_database_that_is_away(machines: Machines) -> None:
    assert [machines.far.get(PRODUCTION).status for _ in range(3)] == [200] * 3
    machines.database(there=False)
    try:
        seconds_until(lambda: machines.far.get(PRODUCTION).status == 503)
        refused = machines.far.get(PRODUCTION)
        assert (refused.status, refused.json()["error"]) == (503, "database_failure")
    finally:
        machines.database(there=True)
    assert machines.far.get(PRODUCTION).status == 200
