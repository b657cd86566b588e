"""Evaluations: kept whole, searched by their newest values."""

import math

import pytest

from registry.domain.errors import AdapterNotFound, VersionNotFound, WrongUsage
from registry.domain.records import Evaluation, SearchQuery
from registry.domain.reference import AdapterName
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, digest, publish


def _evaluation(metrics: dict[str, float], number: int = 1, name: AdapterName = NAME) -> Evaluation:
    return Evaluation(name, number, "sst2", digest("sst2"), metrics, "ann", at())


def test_evaluations_come_back_newest_first(database: Database) -> None:
    first, second = _evaluation({"accuracy": 0.1 + 0.2, "f1": -1.0}), _evaluation({})
    with database.writing() as catalog:
        publish(catalog, "one")
        catalog.evaluations.add(first)
        catalog.evaluations.add(second)
    with database.reading() as catalog:
        assert catalog.evaluations.list(NAME, 1) == [second, first]


def test_search_compares_the_newest_value_of_each_metric(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        catalog.evaluations.add(_evaluation({"accuracy": 0.9, "f1": 0.8}))
        catalog.evaluations.add(_evaluation({"accuracy": 0.5}))

    def fits(*metrics: tuple[str, float]) -> bool:
        with database.reading() as catalog:
            return bool(catalog.search.versions(SearchQuery(metrics=metrics)).items)

    assert fits(("accuracy", 0.5), ("f1", 0.8))
    assert not fits(("accuracy", 0.51))
    assert not fits(("accuracy", 0.5), ("f1", 0.81))
    assert not fits(("recall", -math.inf))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_finite_number_is_refused(database: Database, value: float) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    with pytest.raises(WrongUsage, match="accuracy"), database.writing() as catalog:
        catalog.evaluations.add(_evaluation({"accuracy": value}))


def test_evaluations_of_what_is_not_there_name_it(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
    with pytest.raises(VersionNotFound, match="v2"), database.writing() as catalog:
        catalog.evaluations.add(_evaluation({}, 2))
    with pytest.raises(AdapterNotFound), database.writing() as catalog:
        catalog.evaluations.add(_evaluation({}, 1, AdapterName("demo", "absent")))
    with pytest.raises(VersionNotFound), database.reading() as catalog:
        catalog.evaluations.list(NAME, 2)
