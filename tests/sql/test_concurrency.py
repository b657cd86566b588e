"""Laws that hold between processes: nothing lost, nothing given twice, nothing out of order."""

from registry.domain.reference import AdapterName
from registry.sql.engine import Database
from registry.sql.schema import HEAD, current
from tests.sql import workers
from tests.sql.catalog_records import NAME, publish
from tests.sql.workers import together

VERSIONS = 3


def _publish_some(database: Database) -> list[str]:
    with database.writing() as catalog:
        return [publish(catalog, f"content {number}").digest for number in range(VERSIONS)]


def test_sixteen_processes_that_also_create_the_database_get_consecutive_numbers(empty_database_url: str) -> None:
    given = together(workers.push, [(empty_database_url, writer, 1) for writer in range(16)])
    assert sorted(number for numbers in given for number in numbers) == list(range(1, 17))
    database = Database(empty_database_url)
    assert current(database) == HEAD
    with database.reading() as catalog:
        kept = catalog.versions.list(NAME)
        assert [version.number for version in kept.items] == list(range(16, 0, -1))
        assert len({version.digest for version in kept.items}) == 16
        assert len(catalog.commits.list(NAME)) == 16
        assert [event.cursor for event in catalog.events.since(0)] == list(range(1, 18))  # the team's, and theirs
    database.close()


def test_versions_of_one_name_are_numbered_without_gaps_under_load(database_url: str, database: Database) -> None:
    given = together(workers.push, [(database_url, writer, 5) for writer in range(8)])
    assert sorted(number for numbers in given for number in numbers) == list(range(1, 41))
    assert all(numbers == sorted(numbers) for numbers in given)
    with database.reading() as catalog:
        history = catalog.commits.list(NAME)
    assert [commit.version for commit in history] == list(range(40, 0, -1))
    assert [commit.parent for commit in history] == [*(commit.id for commit in history[1:]), None]


def test_a_look_up_sees_version_and_sequence_of_one_moment(database_url: str, database: Database) -> None:
    digests = _publish_some(database)
    outcomes = together(_either, [(database_url, writer) for writer in range(6)])
    moves = {move.seq: move.after for done, _ in outcomes for move in done}
    seen = [line for _, lines in outcomes for line in lines]
    assert len(seen) == 300
    for seq, number, digest in seen:
        assert moves[seq] == number
        assert digests[number - 1] == digest


def _either(url: str, writer: int) -> tuple[list[workers.Acknowledged], list[tuple[int, int, str]]]:
    if writer % 2:
        return workers.promote_by_comparing(url, writer, 10, VERSIONS), []
    return [], workers.resolve_while_moving(url, 100)


def test_first_creation_of_namespace_adapter_and_alias_never_fails(database_url: str, database: Database) -> None:
    outcomes = together(workers.create_first, [(database_url, writer) for writer in range(16)])
    assert sorted(number for number, _ in outcomes) == list(range(1, 17))
    assert sorted(seq for _, seq in outcomes) == list(range(1, 17))
    with database.reading() as catalog:
        adapter = catalog.adapters.find(AdapterName("newteam", "adapter"))
        assert adapter is not None
        assert adapter.versions == 16
        assert len(catalog.adapters.list().items) == 1


def test_first_creation_of_many_aliases_in_opposite_orders_never_fails(database_url: str, database: Database) -> None:
    _publish_some(database)
    names = [f"alias{number}" for number in range(8)]
    jobs = [(database_url, names[:: 1 if writer % 2 else -1]) for writer in range(8)]
    assert together(workers.lock_new_aliases, jobs) == [[0] * 8] * 8


def test_events_are_gapless_in_commit_order_and_no_reader_misses_one(database_url: str, database: Database) -> None:
    jobs = [(database_url, writer) for writer in range(6)]
    outcomes = together(_write_or_follow, jobs)
    written = sorted(cursor for writer, cursors in enumerate(outcomes) if writer < 4 for cursor in cursors)
    assert written == list(range(1, len(written) + 1))
    assert outcomes[4] == written
    assert outcomes[5] == written


def _write_or_follow(url: str, writer: int) -> list[int]:
    return workers.append_events(url, writer, 25) if writer < 4 else workers.follow_events(url, 60)
