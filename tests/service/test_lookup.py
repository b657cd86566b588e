from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    AliasNotFound,
    BaseConflict,
    Gone,
    InvalidReference,
    NotActive,
    RankTooHigh,
    VersionNotFound,
)
from registry.domain.records import SearchQuery, Status
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter

NAME = AdapterName("team", "support")


@pytest.fixture
def stocked(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with three versions of team/support; the second in production."""
    for seed in range(1, 4):
        folder = write_adapter(tmp_path / str(seed), seed=seed, rank=2 * seed)
        registry.push_folder(folder, Submission(NAME, (), message=f"try {seed}"))
    registry.promote(Reference.parse("team/support@v2"), "production")
    return registry


def number(registry: Registry, reference: str) -> int:
    return registry.find_version(Reference.parse(reference)).number


def test_every_way_to_write_a_version_finds_it(stocked: Registry) -> None:
    version = stocked.find_version(Reference.parse("team/support@production"))
    ways = [
        "team/support@v2",
        "team/support@v002",
        f"team/support@{version.commit}",
        f"team/support@sha256:{version.digest}",
        f"team/support@sha256:{version.digest[:12]}",
        f"team/{version.serving_name}",
    ]
    assert {number(stocked, way) for way in ways} == {2}


def test_without_a_reference_the_newest_active_version_is_found(stocked: Registry) -> None:
    assert number(stocked, "team/support") == 3
    stocked.set_status(Reference.parse("team/support@v3"), Status.YANKED, reason="broken")
    assert number(stocked, "team/support") == 2
    assert number(stocked, "team/support@main") == 2


def test_a_yanked_version_is_found_by_exact_pin_only(stocked: Registry) -> None:
    stocked.set_status(Reference.parse("team/support@v2"), Status.YANKED, reason="broken", force=True)
    assert number(stocked, "team/support@v2") == 2
    with pytest.raises(NotActive):
        number(stocked, "team/support@production")
    stocked.set_status(Reference.parse("team/support@v2"), Status.ACTIVE, reason="was fine")
    assert number(stocked, "team/support@production") == 2


def test_a_revoked_version_is_gone_for_everybody(stocked: Registry) -> None:
    stocked.set_status(Reference.parse("team/support@v3"), Status.REVOKED, reason="leaked data")
    with pytest.raises(Gone):
        number(stocked, "team/support@v3")
    with pytest.raises(Gone):
        stocked.set_status(Reference.parse("team/support@v3"), Status.ACTIVE, reason="please")


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ("team/nothing", AdapterNotFound),
        ("nobody/support@v1", AdapterNotFound),
        ("team/support@v9", VersionNotFound),
        ("team/support@v999999999999999999", VersionNotFound),
        ("team/support@staging", AliasNotFound),
        ("team/support@" + "0" * 40, VersionNotFound),
        ("team/support@sha256:" + "0" * 12, VersionNotFound),
    ],
)
def test_what_is_absent_is_said_by_name(stocked: Registry, reference: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=reference.partition("@")[0]):
        number(stocked, reference)


@pytest.mark.parametrize("text", ["team", "team/", "/x", "a/b/c", "t/x@", "t/x@-a", "t m/x", "t/x@sha256:12"])
def test_what_is_no_reference_is_wrong_usage(text: str) -> None:
    with pytest.raises(InvalidReference):
        Reference.parse(text)


def test_resolve_says_all_that_a_server_must_check(stocked: Registry) -> None:
    document = stocked.resolve(Reference.parse("team/support@production"), max_rank=4, base=TOY)
    version = stocked.find_version(Reference.parse("team/support@v2"))
    assert document["serving_name"] == f"support@sha256-{version.digest[:12]}"
    assert (document["alias"], document["seq"], document["version"]) == ("production", 1, 2)
    assert document["base"] == {"name": TOY, "fingerprint": toy_base().fingerprint, "evidence": "structural"}
    assert (document["rank"], document["alpha"], document["targets"]) == (4, 8.0, ["q_proj", "v_proj"])
    assert {file["path"] for file in document["files"]} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
    }
    assert document["parents"] == []


def test_resolve_refuses_what_the_caller_cannot_serve(stocked: Registry) -> None:
    reference = Reference.parse("team/support@v3")
    with pytest.raises(RankTooHigh):
        stocked.resolve(reference, max_rank=4)
    stocked.add_base("toys/toy-2", toy_base("other weights"))
    with pytest.raises(BaseConflict):
        stocked.resolve(reference, base="toys/toy-2")
    with pytest.raises(BaseConflict):
        stocked.resolve(reference, base="never/registered")
    assert stocked.resolve(reference, max_rank=6, base=f"sha256:{toy_base().fingerprint[:16]}")["version"] == 3


def found(registry: Registry, **query: object) -> list[int]:
    page = registry.search(SearchQuery(**query))  # type: ignore[arg-type]
    return [version.number for version in page.items]


def test_search_keeps_what_matches_everything_asked(stocked: Registry, tmp_path: Path) -> None:
    assert found(stocked) == [3, 2, 1]
    assert found(stocked, rank_min=4) == [3, 2]
    assert found(stocked, rank_max=4) == [2, 1]
    assert found(stocked, rank_min=4, rank_max=4, targets=("q_proj", "v_proj")) == [2]
    assert found(stocked, targets=("q_proj", "k_proj")) == []
    assert found(stocked, base=TOY.upper()) == [3, 2, 1]
    assert found(stocked, base="nobody/nothing") == []
    assert found(stocked, text="TRY 2") == [2]
    assert found(stocked, text="supp") == [3, 2, 1]
    assert found(stocked, text="100%") == []
    assert found(stocked, team="other") == []


def test_search_by_metric_counts_the_newest_measurement(stocked: Registry) -> None:
    for reference, value in [("team/support@v1", 0.9), ("team/support@v2", 0.8), ("team/support@v1", 0.7)]:
        stocked.evaluate(Reference.parse(reference), {"accuracy": value}, dataset="reviews")
    assert found(stocked, metrics=(("accuracy", 0.75),)) == [2]
    assert found(stocked, metrics=(("accuracy", 0.7),)) == [2, 1]
    assert found(stocked, metrics=(("f1", 0.1),)) == []


def test_search_by_status(stocked: Registry) -> None:
    stocked.set_status(Reference.parse("team/support@v1"), Status.YANKED, reason="broken")
    assert found(stocked) == [3, 2]
    assert found(stocked, status=Status.YANKED) == [1]
    assert found(stocked, status=None) == [3, 2, 1]


def test_paging_gives_everything_once(stocked: Registry) -> None:
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = stocked.search(SearchQuery(limit=1, cursor=cursor))
        seen += [version.number for version in page.items]
        if (cursor := page.cursor) is None:
            break
    assert seen == [3, 2, 1]


def test_a_difference_names_facts_files_and_modules(stocked: Registry) -> None:
    one, two = (stocked.find_version(Reference.parse(f"team/support@v{n}")) for n in (1, 2))
    diff = stocked.diff(one, two)
    assert diff["facts"]["rank"] == [2, 4]
    assert "adapter_model.safetensors" in diff["files"] and "README.md" not in diff["files"]
    assert len(diff["modules"]) == 4
    assert stocked.diff(one, one) | {"left": "", "right": ""} == {
        "left": "",
        "right": "",
        "facts": {},
        "files": {},
        "modules": {},
    }


def test_a_base_is_found_by_label_and_by_digest(registry: Registry, tmp_path: Path) -> None:
    fingerprint = toy_base().fingerprint
    assert registry.base(TOY).fingerprint == fingerprint
    assert registry.base(f"sha256:{fingerprint[:12]}").names == (TOY,)
    assert registry.base_index(registry.base(TOY)) == toy_base()
    version = registry.push_folder(
        write_adapter(tmp_path / "a"), Submission(NAME, (), base=BaseClaim(f"sha256:{fingerprint}"))
    ).version
    assert version is not None and version.base.name == TOY
