"""The benchmark's catalog is one that the registry could have written, and its references find what they name."""

from pathlib import Path

import pytest

from benchmarks.bulk_load import populate
from benchmarks.catalog_rows import EVERY, PER_ADAPTER, Population, digest_of, place
from benchmarks.lookup import LOOK_UPS, SEARCHES, reference_to
from registry.sql.engine import Database


@pytest.mark.parametrize("count", [1, 2, 10, 11, 4 * EVERY * PER_ADAPTER + 3])
def test_a_bulk_loaded_catalog_is_whole_and_answers(tmp_path: Path, count: int) -> None:
    database = Database(f"sqlite:///{tmp_path}/catalog.db")
    populate(database, Population(count))
    with database.connection() as connection:
        assert connection.exec_driver_sql("PRAGMA foreign_key_check").all() == []
    with database.reading() as catalog:
        for index in range(0, count, 7):
            for how in LOOK_UPS:
                assert catalog.versions.find(reference_to(index, how)) is not None
            found = catalog.versions.find(reference_to(index, "version"))
            assert found is not None
            assert (found.number, found.digest) == (place(index)[1], digest_of(index))
            adapter = catalog.adapters.find(found.adapter)
            assert adapter is not None
            assert adapter.versions == len(catalog.versions.list(found.adapter, limit=count).items)
        for query in SEARCHES.values():
            catalog.search.versions(query)
    database.close()
