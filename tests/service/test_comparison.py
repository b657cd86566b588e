"""Versions side by side."""

from pathlib import Path
from typing import Any

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import AdapterNotFound, DigestMismatch, NotAllowed, WrongUsage
from registry.domain.gates import Requirement
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter

NAME = AdapterName("ours", "a")
V1, V2, OTHER = map(Reference.parse, ("ours/a@v1", "ours/a@v2", "theirs/b@v1"))
DATA = "d" * 64

pytestmark = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


@pytest.fixture
def measured(registry: Registry, tmp_path: Path) -> Registry:
    """Two versions of one adapter, one of another team's."""
    for seed, name in ((1, NAME), (2, NAME), (3, OTHER.adapter)):
        registry.push_folder(write_adapter(tmp_path / str(seed), seed=seed), Submission(name=name, files=()))
    return registry


def results(right: int, of: int = 20) -> list[dict[str, Any]]:
    return [{"id": str(number), "exact": int(number < right)} for number in range(of)]


def test_differences_are_paired_where_both_have_examples_on_one_content(measured: Registry) -> None:
    measured.evaluate(V1, {}, dataset="june", dataset_sha256=DATA, examples=results(10))
    measured.evaluate(V2, {"f1": 0.5}, dataset="june", dataset_sha256=DATA, examples=results(18, 30))
    found = measured.compare([V1, V2, V1])
    (row,) = [row for row in found["rows"] if row["metric"] == "exact"]
    assert row["values"] == [0.5, 0.6, 0.5]
    assert (row["dataset"], row["dataset_sha256"], row["differences"][0]) == ("june", DATA, None)
    paired, alike = row["differences"][1:]
    assert (paired["method"], paired["examples"], paired["value"]) == ("mcnemar", 20, 0.4)
    assert 0 < paired["low"] < 0.4 < paired["high"]
    assert (alike["value"], alike["p"]) == (0, 1)
    (lone,) = [row for row in found["rows"] if row["metric"] == "f1"]
    assert (lone["values"], lone["differences"]) == ([None, 0.5, None], [None] * 3)


def test_without_examples_or_on_other_contents_nothing_is_paired(measured: Registry) -> None:
    measured.evaluate(V1, {"f1": 0.5}, dataset="june")
    measured.evaluate(V1, {}, dataset="june", dataset_sha256="e" * 64, examples=results(10))
    measured.evaluate(V2, {"f1": 0.75}, dataset="june")
    measured.evaluate(V2, {}, dataset="june", dataset_sha256=DATA, examples=results(10))
    found = measured.compare([V1, V2])["rows"]
    assert {row["metric"]: row["differences"][1] for row in found if row["differences"][1]} == {
        "f1": {"value": 0.25, "low": None, "high": None, "p": None, "examples": 0, "method": "unpaired"}
    }
    assert [row["dataset_sha256"] for row in measured.compare([V1, V2], dataset="e" * 64)["rows"]] == ["e" * 64]
    assert [row["metric"] for row in measured.compare([V1, V2], metric="f1", dataset="june")["rows"]] == ["f1"]


def test_the_newest_of_a_metric_counts(measured: Registry) -> None:
    for value in (0.5, 0.75):
        measured.evaluate(V1, {"f1": value}, dataset="june")
    assert measured.compare([V1, V2])["rows"][0]["values"] == [0.75, None]


def test_what_the_gates_would_say_stands_beside(measured: Registry) -> None:
    measured.set_gate(NAME, "stable", [Requirement.parse("f1>=0.8")])
    measured.evaluate(V2, {"f1": 0.9})
    measured.promote(V2, "stable")
    first, second = measured.compare([V1, V2])["versions"]
    assert first["gates"] == [
        {"alias": "stable", "passes": False, "reasons": ["f1>=0.8 is required, and was not measured"]}
    ]
    assert (second["aliases"], second["gates"]) == (["stable"], [{"alias": "stable", "passes": True, "reasons": []}])


def test_versions_that_the_caller_may_not_read_are_not_compared(measured: Registry) -> None:
    secret = measured.create_token("test", principal="ann").secret
    measured.set_role("ours", "ann", Role.READER)
    ann = measured.on_behalf_of(measured.authenticate(secret))
    assert len(ann.compare([V1, V2])["versions"]) == 2
    with pytest.raises(AdapterNotFound):
        ann.compare([V1, OTHER])
    with pytest.raises(NotAllowed):
        ann.evaluate(V1, {}, dataset_sha256=DATA, examples=results(1))
    assert len(list(measured.blobs.list())) == len({f.sha256 for f in _files(measured)}), "something was kept"


def _files(registry: Registry) -> list[Any]:
    return [file for reference in (V1, V2, OTHER) for file in registry.find_version(reference).files]


def test_one_version_or_nine_are_not_compared(measured: Registry) -> None:
    for references in ([], [V1], [V1] * 9):
        with pytest.raises(WrongUsage):
            measured.compare(references)
    with pytest.raises(WrongUsage, match="sha256 of their data set"):
        measured.evaluate(V1, {}, examples=results(1))
    with pytest.raises(WrongUsage, match="at least one metric"):
        measured.evaluate(V1, {})


def test_kept_results_are_verified_with_everything_else(measured: Registry) -> None:
    kept = measured.evaluate(V1, {}, dataset_sha256=DATA, examples=results(3)).examples
    measured.evaluate(V2, {}, dataset_sha256=DATA, examples=results(4))
    assert kept is not None and measured.verify(deep=True).damage == ()
    assert isinstance(measured.blobs, FolderStore)
    path = measured.blobs.root / "blobs" / kept.sha256[:2] / kept.sha256
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b":1", b":0", 1))
    (damage,) = measured.verify(deep=True).damage
    assert damage.versions == ("ours/a@v1",)
    with pytest.raises(DigestMismatch):
        measured.compare([V1, V2])
