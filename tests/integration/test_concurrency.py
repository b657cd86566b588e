"""Many processes at once on one registry: nothing acknowledged is lost, nothing is half done."""

import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from registry.bootstrap import open_registry
from registry.domain.errors import StaleSequence
from registry.domain.reference import AdapterName, Reference
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import upgrade
from tests.factories import TOY, toy_base, write_adapter

NAME = AdapterName("team", "support")
ALIAS = "production"
WRITERS = 32
TRIES_EACH = 4


def in_processes(work: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], together: int = 16) -> list[Any]:
    """Run `work` once per arguments, each in a process of its own; they begin at the same moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["registry.bootstrap", "sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql"]
    )
    with context.Manager() as manager:
        barrier = manager.Barrier(together)
        with context.Pool(together, maxtasksperchild=1) as pool:
            return pool.starmap(work, [(barrier, *each) for each in arguments], chunksize=1)


def push_one(barrier: Any, environment: dict[str, str], folder: Path) -> int:
    barrier.wait()
    registry = open_registry(environment)
    registry.add_base(TOY, toy_base())
    version = registry.push_folder(folder, Submission(NAME, (), aliases=(ALIAS,))).version
    registry.close()
    assert version is not None
    return version.number


def promote_some(barrier: Any, environment: dict[str, str], writer: int) -> list[int]:
    """Read the alias, then promote expecting what was read, a few times; the sequences that were acknowledged."""
    registry = open_registry(environment)
    barrier.wait()
    acknowledged: list[int] = []
    for _ in range(TRIES_EACH):
        seen = next((alias.seq for alias in registry.aliases(NAME) if alias.name == ALIAS), 0)
        try:
            target = Reference.parse(f"{NAME}@v{writer % 2 + 1}")
            acknowledged.append(registry.promote(target, ALIAS, expected=seen, reason=f"writer {writer}").seq)
        except StaleSequence:
            continue
    registry.close()
    return acknowledged


def environment_of(database_url: str, folder: Path) -> dict[str, str]:
    return {"ADAPTERS_HOME": str(folder), "ADAPTERS_DATABASE_URL": database_url}


def prepared(database_url: str, folder: Path) -> dict[str, str]:
    if not database_url.startswith("sqlite"):
        database = Database(database_url)
        upgrade(database)  # in production the schema is made by `adapters migrate`
        database.close()
    return environment_of(database_url, folder)


def test_sixteen_first_pushes_of_one_name_get_consecutive_numbers(empty_database_url: str, tmp_path: Path) -> None:
    environment = prepared(empty_database_url, tmp_path / "home")
    folders = [write_adapter(tmp_path / str(seed), seed=seed) for seed in range(16)]
    numbers = in_processes(push_one, [(environment, folder) for folder in folders])
    assert sorted(numbers) == list(range(1, 17))
    registry = open_registry(environment)
    assert [version.number for version in registry.versions(NAME).items] == list(range(16, 0, -1))
    assert len(registry.history(NAME, ALIAS)) == 16
    assert registry.verify(deep=True).damage == ()
    registry.close()


def test_sixteen_pushes_of_one_content_are_one_version(empty_database_url: str, tmp_path: Path) -> None:
    environment = prepared(empty_database_url, tmp_path / "home")
    folder = write_adapter(tmp_path / "same")
    numbers = in_processes(push_one, [(environment, folder)] * 16)
    assert set(numbers) == {1}
    registry = open_registry(environment)
    assert len(registry.lineage(registry.find_version(Reference(NAME))).provenance) == 16
    registry.close()


def test_thirty_two_writers_lose_no_acknowledged_move(empty_database_url: str, tmp_path: Path) -> None:
    environment = prepared(empty_database_url, tmp_path / "home")
    registry = open_registry(environment)
    registry.add_base(TOY, toy_base())
    for seed in (1, 2):
        registry.push_folder(write_adapter(tmp_path / str(seed), seed=seed), Submission(NAME, ()))
    results = in_processes(promote_some, [(environment, writer) for writer in range(WRITERS)], together=WRITERS)
    acknowledged = sorted(seq for sequences in results for seq in sequences)
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    assert len(acknowledged) >= TRIES_EACH  # whoever is refused was overtaken by somebody who was not
    moves = registry.history(NAME, ALIAS, limit=WRITERS * TRIES_EACH)
    assert [move.seq for move in moves] == acknowledged[::-1]
    assert all(older.after == newer.before for newer, older in itertools.pairwise(moves))
    registry.close()
