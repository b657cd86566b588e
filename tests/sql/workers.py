"""What the processes of the concurrency tests do. Each opens the database by itself, as a command would.

The processes are forked from a server that has imported everything: sixteen of them then really work at once.
"""

import random
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from typing import Any, TypeVar

import alembic.command
import psycopg
import sqlalchemy.dialects.postgresql.psycopg
import sqlalchemy.dialects.sqlite.pysqlite

from registry.domain.errors import StaleSequence
from registry.domain.records import AliasMove, MoveKind
from registry.domain.reference import AdapterName, Reference
from registry.sql import adapters, aliases, blobs, commits, events, numbering, versions
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from registry.sql.tables import everything
from tests.sql.catalog_records import NAME, at, publish

T = TypeVar("T")
PRELOADED = (
    alembic.command,
    psycopg,
    sqlalchemy.dialects.postgresql.psycopg,
    sqlalchemy.dialects.sqlite.pysqlite,
    *(adapters, aliases, blobs, commits, events, everything, numbering, versions),
)
PATIENCE = 120  # seconds
ALIAS = "production"


def together(work: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> list[T]:
    """Run `work` in one process for each tuple of arguments, all started at one moment; their results in order."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["tests.sql.workers"])
    jobs = list(arguments)
    barrier = context.Barrier(len(jobs))
    pipes, processes = [], []
    for job in jobs:
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=_run, args=(work, job, barrier, writer))
        process.start()
        writer.close()
        pipes.append(reader)
        processes.append(process)
    try:
        return [_received(pipe) for pipe in pipes]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _received(pipe: Any) -> Any:
    if not wait([pipe], PATIENCE):
        raise TimeoutError("a process did not end")
    succeeded, result = pipe.recv()
    if not succeeded:
        raise AssertionError(f"a process failed:\n{result}")
    return result


def _run(work: Callable[..., Any], job: tuple[Any, ...], barrier: Any, writer: Any) -> None:
    try:
        barrier.wait(PATIENCE)
        writer.send((True, work(*job)))
    except BaseException:
        writer.send((False, traceback.format_exc()))
        sys.exit(1)


def push(url: str, writer: int, pushes: int) -> list[int]:
    """Create the database if need be and add versions; the numbers that were given."""
    database = Database(url)
    ensure_schema(database, migrate=True)
    numbers = []
    for push in range(pushes):
        with database.writing() as catalog:
            added = publish(catalog, f"{writer}.{push}", author=f"writer{writer}")
            catalog.events.append("version.created", NAME, {"version": added.number})
        numbers.append(added.number)
    database.close()
    return numbers


@dataclass(frozen=True)
class Acknowledged:
    """A move that a writer was told is done."""

    seq: int
    before: int | None
    after: int


def promote_by_comparing(url: str, writer: int, moves: int, versions: int) -> list[Acknowledged]:
    """Read the alias, then move it if nobody did meanwhile, until enough moves were acknowledged."""
    database = Database(url)
    choices = random.Random(writer)
    done: list[Acknowledged] = []
    while len(done) < moves:
        with database.reading() as catalog:
            seen = catalog.aliases.find(NAME, ALIAS)
        try:
            done.append(_move(database, seen.seq if seen else 0, choices.randint(1, versions)))
        except StaleSequence:
            time.sleep(choices.random() / 4)
    database.close()
    return done


def _move(database: Database, expected: int, target: int) -> Acknowledged:
    with database.writing() as catalog:
        register = catalog.aliases.lock(NAME, ALIAS, actor="ann", at=at())
        if register.seq != expected:
            raise StaleSequence(str(NAME), ALIAS, expected, register.seq)
        move = AliasMove(
            NAME, ALIAS, expected + 1, MoveKind.PROMOTE, register.version, target, "ann", None, at(expected)
        )
        catalog.aliases.apply(move, [*catalog.aliases.stack(NAME, ALIAS), target])
        catalog.events.append("alias.moved", NAME, {"seq": move.seq})
    return Acknowledged(move.seq, move.before, target)


def create_first(url: str, writer: int) -> tuple[int, int]:
    """Create a namespace, an adapter in it, its first version and alias, as everybody else does at this moment."""
    database = Database(url)
    name = AdapterName("newteam", "adapter")
    with database.writing() as catalog:
        added = publish(catalog, f"first {writer}", name, author=f"writer{writer}")
        register = catalog.aliases.lock(name, "staging", actor="ann", at=at())
        move = AliasMove(
            name, "staging", register.seq + 1, MoveKind.PROMOTE, register.version, added.number, "ann", None, at()
        )
        stack = [*catalog.aliases.stack(name, "staging"), added.number]
        alias = catalog.aliases.apply(move, stack)
        catalog.events.append("alias.moved", name, {"seq": alias.seq})
    database.close()
    return added.number, alias.seq


def lock_new_aliases(url: str, names: list[str]) -> list[int]:
    """Create aliases by locking them, each in a transaction of its own."""
    database = Database(url)
    seen = []
    for alias in names:
        with database.writing() as catalog:
            seen.append(catalog.aliases.lock(NAME, alias, actor="ann", at=at()).seq)
    database.close()
    return seen


def append_events(url: str, writer: int, count: int) -> list[int]:
    """Append events in transactions of different lengths, some of which are given up."""
    database = Database(url)
    chance = random.Random(writer)
    cursors = []
    for number in range(count):
        try:
            with database.writing() as catalog:
                cursor = catalog.events.append("test", NAME, {"writer": writer, "number": number})
                time.sleep(chance.random() / 200)
                if chance.random() < 0.3:
                    raise InterruptedError
        except InterruptedError:
            continue
        cursors.append(cursor)
    database.close()
    return cursors


def follow_events(url: str, expected: int) -> list[int]:
    """Poll for events as a subscriber does, never looking back, until nothing came for a while."""
    database = Database(url)
    cursors: list[int] = []
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < (1 if len(cursors) >= expected else 5):
        with database.reading() as catalog:
            events = catalog.events.since(cursors[-1] if cursors else 0, limit=7)
        if events:
            quiet_since = time.monotonic()
        cursors += [event.cursor for event in events]
    database.close()
    return cursors


def resolve_while_moving(url: str, reads: int) -> list[tuple[int, int, str]]:
    """Look an alias up until it was there often enough: (seq, version, digest), each from one moment."""
    database = Database(url)
    reference = Reference.parse(f"{NAME}@{ALIAS}")
    seen: list[tuple[int, int, str]] = []
    while len(seen) < reads:
        with database.reading() as catalog:
            found = catalog.versions.find_alias(reference)
        if found is not None:
            version, alias = found
            seen.append((alias.seq, version.number, version.digest))
    database.close()
    return seen
