"""Base models: identity by fingerprint, labels, links."""

import pytest

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import BaseNotFound, InvalidReference, NameTaken
from registry.sql.engine import Database
from tests.sql.catalog_records import at, digest


def _index(seed: str, count: int = 2) -> BaseIndex:
    tensors = (BaseTensor("unet", f"layer.{n}", "F32", (4, 3), 48, digest(f"{seed} {n}")) for n in range(count))
    return BaseIndex("safetensors", "bert", tuple(tensors))


def test_a_base_comes_back_with_its_index(database: Database) -> None:
    index = _index("a")
    with database.writing() as catalog:
        added = catalog.bases.add("MiniLM", index, actor="ann", at=at())
    assert (added.fingerprint, added.names, added.tensors) == (index.fingerprint, ("MiniLM",), 2)
    assert (added.parameters, added.size, added.created_at) == (24, 96, at())
    with database.reading() as catalog:
        assert catalog.bases.index(added.fingerprint) == index
        for name in ("minilm", f"sha256:{added.fingerprint[:12]}", f"SHA256:{added.fingerprint.upper()}"):
            assert catalog.bases.find(name) == added
        assert catalog.bases.list() == [added]


def test_adding_again_changes_nothing_and_another_label_is_added(database: Database) -> None:
    with database.writing() as catalog:
        first = catalog.bases.add("MiniLM", _index("a"), actor="ann", at=at())
        assert catalog.bases.add("minilm", _index("a"), actor="bob", at=at(1)) == first
        both = catalog.bases.add("all-MiniLM", _index("a"), actor="bob", at=at(2))
    assert both.names == ("MiniLM", "all-MiniLM")


def test_a_label_of_another_base_is_taken(database: Database) -> None:
    with database.writing() as catalog:
        catalog.bases.add("MiniLM", _index("a"), actor="ann", at=at())
    with pytest.raises(NameTaken, match="minilm"), database.writing() as catalog:
        catalog.bases.add("minilm", _index("b"), actor="ann", at=at())
    with database.reading() as catalog:
        assert len(catalog.bases.list()) == 1


def test_bases_are_linked_and_links_need_both_ends(database: Database) -> None:
    with database.writing() as catalog:
        original = catalog.bases.add("full", _index("a"), actor="ann", at=at())
        copy = catalog.bases.add("nf4", _index("b"), actor="ann", at=at(1))
        linked = catalog.bases.link(copy.fingerprint, quantised_of=original.fingerprint)
        again = catalog.bases.link(copy.fingerprint, succeeds=original.fingerprint)
    assert (linked.quantised_of, linked.succeeds) == (original.fingerprint, None)
    assert (again.quantised_of, again.succeeds) == (original.fingerprint, original.fingerprint)
    for ends in ((copy.fingerprint, "0" * 64), ("0" * 64, copy.fingerprint)):
        with pytest.raises(BaseNotFound), database.writing() as catalog:
            catalog.bases.link(ends[0], succeeds=ends[1])


@pytest.mark.parametrize("digits", ["", "abc", "g" * 12, "0" * 65, "%" * 12])
def test_what_is_no_fingerprint_is_refused(database: Database, digits: str) -> None:
    with pytest.raises(InvalidReference), database.reading() as catalog:
        catalog.bases.find(f"sha256:{digits}")


def test_what_is_not_there_is_none_or_named(database: Database) -> None:
    with database.reading() as catalog:
        assert catalog.bases.find("absent") is None
        assert catalog.bases.find("sha256:" + "0" * 12) is None
        with pytest.raises(BaseNotFound, match="sha256:000"):
            catalog.bases.index("0" * 64)
