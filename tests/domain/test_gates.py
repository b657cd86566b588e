"""Gates: what lets a version pass."""

from datetime import UTC, datetime

import pytest

from registry.domain.errors import WrongUsage
from registry.domain.gates import Approval, Gate, Requirement, unmet
from registry.domain.records import Evaluation
from registry.domain.reference import AdapterName

NAME = AdapterName("team", "a")
AT = datetime(2026, 1, 1, tzinfo=UTC)
SHA = "a" * 64
BOUNDS = [("f1>=0.8", 0.8, True), ("f1>=0.8", 0.79, False), ("f1<=1", 1.5, False)]
NONE = ["f1", "f1>0.8", ">=0.8", "f1>=", "f1>=nan", "f1>=inf", "f1>=1e999", "f 1>=0.8", "f1>=0.8.1"]


def gate(*requirements: Requirement, approvals: int = 0) -> Gate:
    return Gate(NAME, "production", requirements, approvals, "ann", AT)


def measured(value: float, dataset: str | None = "june", sha256: str | None = None) -> Evaluation:
    return Evaluation(NAME, 1, dataset, sha256, {"f1": value}, "ci", AT)


def approved(*principals: str) -> list[Approval]:
    return [Approval(NAME, 1, "production", principal, "", AT) for principal in principals]


def passes(given: Gate, evaluations: list[Evaluation], approvals: list[Approval] | None = None) -> bool:
    return not unmet(given, evaluations, approvals or [], author="author", requester="requester")


@pytest.mark.parametrize(("text", "value", "holds"), BOUNDS)
def test_a_bound_includes_itself(text: str, value: float, holds: bool) -> None:
    assert passes(gate(Requirement.parse(text)), [measured(value)]) is holds


def test_of_several_evaluations_the_newest_counts() -> None:
    closed = gate(Requirement.parse("f1>=0.8"))
    assert passes(closed, [measured(0.9), measured(0.1)])
    assert not passes(closed, [measured(0.1), measured(0.9)])


def test_what_was_not_measured_does_not_pass() -> None:
    assert not passes(gate(Requirement.parse("f1>=0")), [])
    assert not passes(gate(Requirement.parse("loss<=9")), [measured(1)])


def test_only_the_data_set_that_is_asked_for_counts() -> None:
    on_june = gate(Requirement.parse("f1>=0.8", dataset="june"))
    assert not passes(on_june, [measured(0.9, "may")])
    assert passes(on_june, [measured(0.1, "may"), measured(0.9, "june")])
    pinned = gate(Requirement.parse("f1>=0.8", dataset="june", dataset_sha256=SHA))
    assert not passes(pinned, [measured(0.9, "june", "b" * 64), measured(0.9, "june")])
    assert passes(pinned, [measured(0.9, "june", SHA)])


def test_neither_the_author_nor_the_requester_can_approve() -> None:
    asking = gate(approvals=1)
    assert not passes(asking, [], approved("author", "REQUESTER"))
    assert passes(asking, [], approved("author", "bob"))
    assert not passes(gate(approvals=2), [], approved("bob", "Bob"))


@pytest.mark.parametrize("text", NONE)
def test_what_is_no_requirement_is_refused(text: str) -> None:
    with pytest.raises(WrongUsage):
        Requirement.parse(text)


def test_a_requirement_is_written_as_it_is_read() -> None:
    written = str(Requirement.parse("f1 >= 0.80", dataset="june", dataset_sha256=SHA))
    assert written == "f1>=0.8 on june (sha256:aaaaaaaaaaaa)"
