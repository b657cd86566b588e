"""Search: each condition, all together, page by page, on both of its paths."""

from dataclasses import replace
from typing import Any

import pytest

from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import WrongUsage
from registry.domain.records import Evaluation, Evidence, SearchQuery, Status, VersionBase
from registry.domain.reference import AdapterName
from registry.sql import search
from registry.sql.engine import Database
from tests.sql.catalog_records import NAME, at, digest, publish, summary

GERMAN = AdapterName("other", "german-legal")
INDEX = BaseIndex("safetensors", "bert", (BaseTensor("", "w", "F32", (1,), 4, digest("w")),))


@pytest.fixture(autouse=True, params=["ids first", "walk"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of finding a page must find the same one."""
    if request.param == "walk":
        monkeypatch.setattr(search, "FEW", -1)


@pytest.fixture(scope="module")
def filled(module_database: Database) -> Database:
    """A database with some versions that tests only read."""
    _fill(module_database)
    return module_database


def _fill(database: Database) -> None:
    """Write versions a to e, newest last."""
    with database.writing() as catalog:
        base = catalog.bases.add("MiniLM-v2", INDEX, actor="ann", at=at())
        known = VersionBase("MiniLM-v2", base.fingerprint, Evidence.EXACT)
        publish(catalog, "a", summary=summary(rank=4))
        publish(catalog, "b", summary=summary(rank=8), base=known)
        publish(catalog, "c", GERMAN, summary=summary(rank=16, targets=("query", "o_proj")), message="Recht_sprechung")
        publish(catalog, "d", GERMAN, summary=summary(rank=64), base=known, metadata={"Sprache": "Österreich-Deutsch"})
        publish(catalog, "e", GERMAN)
        catalog.versions.set_status(GERMAN, 3, status=Status.YANKED, reason=None)
        catalog.evaluations.add(Evaluation(GERMAN, 1, None, None, {"accuracy": 0.75}, "ann", at()))
        catalog.evaluations.add(Evaluation(NAME, 1, None, None, {"accuracy": 0.25, "f1": 1.0}, "ann", at()))


def _found(database: Database, **asked: Any) -> str:
    """The contents found, in order."""
    with database.reading() as catalog:
        page = catalog.search.versions(SearchQuery(**asked))
    contents = {digest(f"content {content}"): content for content in "abcde"}
    return "".join(contents[version.digest] for version in page.items)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, "dcba"),
        ({"status": None}, "edcba"),
        ({"status": Status.YANKED}, "e"),
        ({"team": "OTHER"}, "dc"),
        ({"team": "oth"}, ""),
        ({"rank_min": 8}, "dcb"),
        ({"rank_max": 8}, "ba"),
        ({"rank_min": 8, "rank_max": 16}, "cb"),
        ({"rank_min": 16, "rank_max": 8}, ""),
        ({"rank_min": 10**30}, ""),
        ({"rank_min": -(10**30), "rank_max": 10**30}, "dcba"),
        ({"targets": ("query",)}, "dcba"),
        ({"targets": ("query", "value")}, "dba"),
        ({"targets": ("quer",)}, ""),
        ({"base": "minilm-V2"}, "db"),
        ({"base": f"sha256:{INDEX.fingerprint[:12]}"}, "db"),
        ({"base": f"SHA256:{INDEX.fingerprint.upper()}"}, "db"),
        ({"base": "minilm"}, "ca"),
        ({"base": "absent"}, ""),
        ({"text": "german"}, "dc"),
        ({"text": "GERM leg"}, "dc"),
        ({"text": "german sentiment"}, ""),
        ({"text": "sprech"}, "c"),
        ({"text": "österreich"}, "d"),
        ({"text": "%"}, "dcba"),
        ({"text": "ger%"}, "dc"),
        ({"text": "erman"}, ""),
        ({"metrics": (("accuracy", 0.5),)}, "c"),
        ({"metrics": (("accuracy", 0.25),)}, "ca"),
        ({"metrics": (("accuracy", 0.25), ("f1", 1))}, "a"),
        ({"metrics": (("accuracy' OR 1=1 --", 0),)}, ""),
        ({"team": "other", "rank_min": 16, "targets": ("value",), "base": "minilm-v2", "text": "deutsch"}, "d"),
    ],
)
def test_a_search_finds_exactly_what_was_asked(filled: Database, asked: dict[str, Any], expected: str) -> None:
    assert _found(filled, **asked) == expected


@pytest.mark.parametrize("asked", [{}, {"rank_min": 4}, {"targets": ("query",)}])
def test_pages_follow_each_other_without_gap_or_repetition(filled: Database, asked: dict[str, Any]) -> None:
    seen, query = "", SearchQuery(limit=1, **asked)
    while True:
        with filled.reading() as catalog:
            page = catalog.search.versions(query)
        seen += _found(filled, limit=1, cursor=query.cursor, **asked)
        assert len(page.items) == 1
        if page.cursor is None:
            break
        query = replace(query, cursor=page.cursor)
    assert seen == "dcba"


def test_a_base_that_becomes_known_is_found_by_its_fingerprint(database: Database) -> None:
    _fill(database)
    known = VersionBase("MiniLM-v2", INDEX.fingerprint, Evidence.STRUCTURAL)
    with database.writing() as catalog:
        catalog.versions.set_base(NAME, 1, known, modules=(), actor="ann", at=at())
    assert _found(database, base="MiniLM-v2") == "dba"
    assert _found(database, base="MiniLM") == "c"


def test_a_foreign_cursor_is_wrong_usage(filled: Database) -> None:
    with pytest.raises(WrongUsage), filled.reading() as catalog:
        catalog.search.versions(SearchQuery(cursor="1; DROP TABLE versions"))
