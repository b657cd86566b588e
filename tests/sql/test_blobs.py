"""Blobs: possession by namespace, and who is hit by a damaged one."""

from registry.domain.reference import AdapterName
from registry.sql import blobs
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, digest, files, publish

OTHER = AdapterName("other", "german")


def test_possession_is_a_namespace_s_own(database: Database) -> None:
    known = [(digest("a"), 1), (digest("b"), 2)]
    with database.writing() as catalog:
        catalog.blobs.register("demo", known, at=at())
        catalog.blobs.register("demo", known, at=at(1))
        catalog.blobs.register("other", known[:1], at=at())
        catalog.blobs.register("other", [], at=at())
    asked = {digest("a"), digest("b"), digest("c")}
    with database.reading() as catalog:
        assert catalog.blobs.possessed("DEMO", asked) == {digest("a"), digest("b")}
        assert catalog.blobs.possessed("other", asked) == {digest("a")}
        assert catalog.blobs.possessed("absent", asked) == set()


def test_many_digests_are_asked_in_batches(database: Database) -> None:
    known = [(digest(str(number)), number) for number in range(2 * blobs.BATCH + 1)]
    with database.writing() as catalog:
        catalog.blobs.register("demo", known, at=at())
    with database.reading() as catalog:
        asked = (sha256 for sha256, _ in known)
        assert len(catalog.blobs.possessed("demo", asked)) == len(known)


def test_every_blob_of_a_commit_is_streamed_once_and_no_other(database: Database) -> None:
    with database.writing() as catalog:
        for content in ("one", "two", "three"):
            publish(catalog, content)
        catalog.blobs.register("demo", [(digest("uploaded, never committed"), 9)], at=at())
    expected = {(entry.sha256, entry.size) for content in ("one", "two", "three") for entry in files(content)}
    with database.reading() as catalog:
        assert list(catalog.blobs.all()) == sorted(expected)


def test_the_versions_that_a_blob_hits_are_found(database: Database) -> None:
    with database.writing() as catalog:
        publish(catalog, "one")
        publish(catalog, "two")
        publish(catalog, "two", OTHER)
    with database.reading() as catalog:
        hit = {
            name: [version.reference for version in catalog.blobs.users(digest(name))]
            for name in ("config", "weights two", "weights one", "weights three")
        }
    assert hit == {
        "config": [f"{NAME}@v1", f"{NAME}@v2", f"{OTHER}@v1"],
        "weights two": [f"{NAME}@v2", f"{OTHER}@v1"],
        "weights one": [f"{NAME}@v1"],
        "weights three": [],
    }
