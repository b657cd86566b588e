"""Gates, enforced wherever an alias moves forward."""

from pathlib import Path

import pytest

from registry.domain.errors import AliasNotFound, GateClosed, NotAllowed, WrongUsage
from registry.domain.gates import Requirement
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter

NAME = AdapterName("ours", "a")
V1, V2 = Reference.parse("ours/a@v1"), Reference.parse("ours/a@v2")
F1 = Requirement.parse("f1>=0.8", dataset="june")


@pytest.fixture
def gated(registry: Registry, tmp_path: Path) -> Registry:
    """An adapter with two versions, and a gate before production."""
    for seed in (1, 2):
        registry.push_folder(write_adapter(tmp_path / str(seed), seed=seed), Submission(name=NAME, files=()))
    registry.set_gate(NAME, "production", [F1])
    return registry


def someone(registry: Registry, principal: str, role: Role) -> Registry:
    secret = registry.create_token("test", principal=principal).secret
    registry.set_role("ours", principal, role)
    return registry.on_behalf_of(registry.authenticate(secret))


def test_a_closed_gate_lets_nothing_pass(gated: Registry) -> None:
    with pytest.raises(GateClosed, match="on june is required, and was not measured"):
        gated.promote(V1, "Production")
    with pytest.raises(AliasNotFound):
        gated.history(NAME, "production")
    gated.evaluate(V1, {"f1": 0.85}, dataset="june")
    assert gated.promote(V1, "production").after == 1


def test_a_push_straight_to_a_gated_alias_is_refused_as_a_whole(gated: Registry, tmp_path: Path) -> None:
    pushed = Submission(name=NAME, files=(), aliases=("production",))
    with pytest.raises(GateClosed):
        gated.push_folder(write_adapter(tmp_path / "third", seed=3), pushed)
    assert gated.adapter(NAME).versions == 2


def test_a_rollback_is_never_gated(gated: Registry) -> None:
    for reference in (V1, V2):
        gated.promote(reference, "production", override_gate=True, reason="arranged")
    gated.set_gate(NAME, "production", [Requirement.parse("f1>=2")])
    assert gated.rollback(NAME, "production").after == 1


def test_passing_a_closed_gate_takes_an_admin_a_reason_and_is_audited(gated: Registry) -> None:
    with pytest.raises(WrongUsage):
        gated.promote(V1, "production", override_gate=True)
    maintainer = someone(gated, "bob", Role.MAINTAINER)
    with pytest.raises(NotAllowed):
        maintainer.promote(V1, "production", override_gate=True, reason="now")
    someone(gated, "ann", Role.OWNER).promote(V1, "production", override_gate=True, reason="now")
    last = gated.audit()[-1]
    assert (last.actor, last.payload["overridden"]) == ("ann", ["f1>=0.8 on june is required, and was not measured"])


def test_only_an_admin_sets_and_removes_gates(gated: Registry) -> None:
    maintainer = someone(gated, "bob", Role.MAINTAINER)
    with pytest.raises(NotAllowed):
        maintainer.set_gate(NAME, "production", [Requirement.parse("f1>=0")])
    with pytest.raises(NotAllowed):
        maintainer.remove_gate(NAME, "production")
    assert [gate.requirements for gate in maintainer.gates(NAME)] == [(F1,)]
    gated.remove_gate(NAME, "production")
    assert gated.gates(NAME) == []


def test_an_approval_is_of_one_version_and_not_of_its_author(gated: Registry, tmp_path: Path) -> None:
    gated.set_gate(NAME, "production", [], approvals=1)
    author, other = someone(gated, "bob", Role.MAINTAINER), someone(gated, "ann", Role.MAINTAINER)
    author.push_folder(write_adapter(tmp_path / "third", seed=3), Submission(name=NAME, files=()))
    mine = Reference.parse("ours/a@v3")
    with pytest.raises(NotAllowed):
        author.approve(mine, "production")
    other.approve(V2, "production")
    with pytest.raises(GateClosed):
        author.promote(mine, "production")
    other.approve(mine, "production", comment="read 50 answers")
    other.approve(mine, "production")
    with pytest.raises(GateClosed):
        other.promote(mine, "production")
    assert author.promote(mine, "production").after == 3
