import math
from pathlib import Path

import pytest

from registry.domain.errors import VersionNotFound, WrongUsage
from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import TOY, toy_base, write_adapter
from tests.service.test_transfers import blob_path, flip_a_byte

NAME = AdapterName("team", "support")


@pytest.fixture
def version(registry: Registry, tmp_path: Path) -> Version:
    """team/support@v1, in production."""
    publication = registry.push_folder(write_adapter(tmp_path / "a"), Submission(NAME, (), aliases=("production",)))
    assert publication.version is not None
    return publication.version


def test_a_healthy_store_has_no_damage(registry: Registry, version: Version) -> None:
    verification = registry.verify(deep=True)
    assert verification.damage == ()
    assert verification.blobs == len(version.files)
    assert verification.bytes == version.size


def test_a_missing_blob_names_the_versions_and_aliases_that_it_hits(registry: Registry, version: Version) -> None:
    blob_path(registry, version, "adapter_config.json").unlink()
    (damage,) = registry.verify().damage
    assert damage.problem == "missing"
    assert damage.versions == ("team/support@v1",)
    assert damage.aliases == ("team/support@production",)


def test_a_flipped_byte_is_found_by_looking_deep(registry: Registry, version: Version) -> None:
    flip_a_byte(blob_path(registry, version, "adapter_model.safetensors"))
    assert registry.verify().damage == ()
    (damage,) = registry.verify(version, deep=True).damage
    assert "changed at rest" in damage.problem


def test_a_truncated_blob_is_found_without_reading_it(registry: Registry, version: Version) -> None:
    path = blob_path(registry, version, "adapter_model.safetensors")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    (damage,) = registry.verify().damage
    assert "bytes, not" in damage.problem


def test_evaluations_are_kept_newest_first(registry: Registry, version: Version) -> None:
    reference = Reference.parse("team/support@production")
    registry.evaluate(reference, {"accuracy": 0.8})
    registry.evaluate(reference, {"accuracy": 0.9, "f1": 0.5}, dataset="reviews", dataset_sha256="0" * 64)
    newest, oldest = registry.evaluations(version)
    assert newest.metrics == {"accuracy": 0.9, "f1": 0.5}
    assert (newest.dataset, oldest.dataset) == ("reviews", None)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_is_a_finite_number(registry: Registry, version: Version, value: float) -> None:
    with pytest.raises(WrongUsage, match="accuracy"):
        registry.evaluate(Reference(NAME), {"accuracy": value})
    with pytest.raises(WrongUsage):
        registry.evaluate(Reference(NAME), {})
    assert registry.evaluations(version) == []


def test_what_is_evaluated_must_exist(registry: Registry, version: Version) -> None:
    with pytest.raises(VersionNotFound):
        registry.evaluate(Reference.parse("team/support@v2"), {"accuracy": 0.5})


def test_bases_can_be_linked(registry: Registry) -> None:
    registry.add_base("toys/toy-1-gguf", toy_base("quantised"))
    linked = registry.link_base("toys/toy-1-gguf", quantised_of=TOY)
    assert linked.quantised_of == toy_base().fingerprint
    with pytest.raises(WrongUsage):
        registry.link_base(TOY, succeeds=TOY)
    with pytest.raises(WrongUsage):
        registry.link_base(TOY)


@pytest.mark.parametrize("label", ["", "x" * 201, " padded ", "sha256:abc", "new\nline"])
def test_a_base_needs_a_usable_label(registry: Registry, label: str) -> None:
    with pytest.raises(WrongUsage):
        registry.add_base(label, toy_base())
