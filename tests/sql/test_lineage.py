"""Lineage: every provenance kept, recipes unique, parents and descendants."""

import pytest

from registry.domain.errors import VersionNotFound
from registry.domain.records import Parent, Provenance, Version
from registry.domain.reference import AdapterName
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, digest, publish

BLEND = AdapterName("demo", "blend")
RECIPE = {"method": "linear", "inputs": [{"weight": 0.1}], "name": "ü"}


def _parent(version: Version) -> Parent:
    return Parent(version.adapter, version.number, version.digest)


def _provenance(version: Version, recipe: str | None = None, parents: tuple[Parent, ...] = ()) -> Provenance:
    digest_of_it = None if recipe is None else digest(recipe)
    return Provenance(version.commit, "ann", at(), digest_of_it, None if recipe is None else RECIPE, parents)


def test_every_provenance_is_kept_oldest_first(database: Database) -> None:
    with database.writing() as catalog:
        one, two = publish(catalog, "one"), publish(catalog, "two")
        blend = publish(catalog, "blend", BLEND)
        pushed = _provenance(blend)
        made = _provenance(blend, "r1", (_parent(two), _parent(one), _parent(two)))
        again = _provenance(blend, "r1", (_parent(one),))
        for provenance in (pushed, made, again):
            catalog.lineage.record(BLEND, 1, provenance)
    with database.reading() as catalog:
        lineage = catalog.lineage.of(BLEND, 1)
        assert lineage.provenance == (pushed, made, again)
        assert lineage.digest == blend.digest
        assert catalog.lineage.of(NAME, 1).descendants == (_parent(blend),)
        assert catalog.lineage.of(NAME, 2).descendants == (_parent(blend),)
        assert catalog.lineage.of(NAME, 2).provenance == ()


def test_a_recipe_keeps_the_version_that_it_gave_first_in_an_adapter(database: Database) -> None:
    with database.writing() as catalog:
        first, forced = publish(catalog, "one", BLEND), publish(catalog, "two", BLEND)
        elsewhere = publish(catalog, "one")
        catalog.lineage.record(BLEND, 1, _provenance(first, "r1"))
        catalog.lineage.record(BLEND, 2, _provenance(forced, "r1"))
        catalog.lineage.record(NAME, 1, _provenance(elsewhere, "r1"))
    with database.reading() as catalog:
        assert catalog.lineage.version_of(BLEND, digest("r1")) == 1
        assert catalog.lineage.version_of(NAME, digest("r1")) == 1
        assert catalog.lineage.version_of(NAME, digest("r2")) is None
        assert catalog.lineage.of(BLEND, 2).provenance[0].recipe == RECIPE


def test_lineage_names_what_is_not_there(database: Database) -> None:
    with database.writing() as catalog:
        one = publish(catalog, "one")
    with pytest.raises(VersionNotFound, match="v2"), database.reading() as catalog:
        catalog.lineage.of(NAME, 2)
    with pytest.raises(VersionNotFound, match="demo/blend"), database.writing() as catalog:
        catalog.lineage.record(NAME, 1, _provenance(one, "r1", (Parent(BLEND, 1, digest("x")),)))
    with database.reading() as catalog:
        assert catalog.lineage.of(NAME, 1).provenance == ()
