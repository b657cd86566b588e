"""Events: an outbox without gaps."""

from datetime import UTC, datetime, timedelta

import pytest

from registry.sql.engine import Database
from tests.sql.catalog_records import NAME


def test_events_come_back_in_order_from_any_cursor(database: Database) -> None:
    with database.writing() as catalog:
        given = [catalog.events.append("version.created", NAME, {"version": n, "ü": [None]}) for n in range(3)]
        given.append(catalog.events.append("base.created", None, {}))
    assert given == [1, 2, 3, 4]
    with database.reading() as catalog:
        everything = catalog.events.since(0)
        assert catalog.events.since(2) == everything[2:]
        assert catalog.events.since(0, limit=2) == everything[:2]
        assert catalog.events.since(4) == []
    assert [event.cursor for event in everything] == given
    assert (everything[1].adapter, everything[3].adapter) == (NAME, None)
    assert everything[1].payload == {"version": 1, "ü": [None]}
    moment = everything[0].at
    assert moment is not None
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)


def test_an_event_of_a_transaction_that_failed_never_was(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing() as catalog:
        catalog.events.append("version.created", NAME, {})
        raise ZeroDivisionError
    with database.writing() as catalog:
        assert catalog.events.append("version.created", NAME, {}) == 1
