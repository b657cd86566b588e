"""Damage: found, marked, not served, repaired."""

import random
from datetime import timedelta
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import BlobNotFound, Damaged, DigestMismatch
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.integrity import SCRUB_EVERY
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.service.jobs import Clock
from tests.service.test_collecting import bring, push
from tests.service.test_transfers import blob_path, flip_a_byte

FLIPS = 25
MAIN = Reference.parse("team/support")
WEIGHTS = "adapter_model.safetensors"


def flip(path: Path, generator: random.Random) -> None:
    """Flip one bit somewhere."""
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
    path.write_bytes(bytes(data))


def copy_of(registry: Registry, folder: Path) -> FolderStore:
    store = FolderStore(folder)
    for stat in registry.blobs.list():
        with registry.blobs.open(stat.sha256) as stream:
            store.put([stream.read()], sha256=stat.sha256, size=stat.size)
    return store


def test_every_flipped_bit_is_found_names_what_it_hits_and_is_repaired_from_another_store(
    registry: Registry, tmp_path: Path
) -> None:
    version = push(registry, tmp_path / "a")
    registry.promote(Reference.parse("team/support@v1"), "production")
    backup, generator = copy_of(registry, tmp_path / "backup"), random.Random(7)
    for _ in range(FLIPS):
        file = generator.choice(version.files)
        flip(blob_path(registry, version, file.path), generator)
        with pytest.raises(DigestMismatch):
            registry.pull(version, tmp_path / "pulled")
        (damage,) = registry.verify(deep=True).damage
        assert (damage.sha256, damage.versions) == (file.sha256, ("team/support@v1",))
        assert damage.aliases == ("team/support@production",)
        for look in (registry.resolve, registry.snapshot):
            with pytest.raises(Damaged):
                look(MAIN)
        assert registry.repair(backup).repaired == (file.sha256,)
        assert registry.find_version(MAIN).digest == version.digest
    assert registry.verify(deep=True).damage == ()


def test_what_the_other_store_has_damaged_too_is_left(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    blob_path(registry, version, WEIGHTS).unlink()
    backup = copy_of(registry, tmp_path / "backup")
    (damage,) = registry.verify().damage
    assert registry.repair(backup).left == (damage.sha256,)
    with pytest.raises(Damaged, match="missing"):
        registry.find_version(Reference.parse("team/support@v1"))


def test_other_versions_are_served_and_the_same_content_pushed_again_repairs(
    registry: Registry, tmp_path: Path
) -> None:
    first, second = push(registry, tmp_path / "a"), push(registry, tmp_path / "b", seed=1)
    flip_a_byte(blob_path(registry, first, WEIGHTS))
    registry.verify(first, deep=True)
    assert registry.find_version(MAIN).number == second.number
    with pytest.raises(Damaged):
        registry.find_version(Reference.parse("team/support@v1"))
    assert push(registry, tmp_path / "a").number == first.number
    assert registry.find_version(Reference.parse("team/support@v1")).damage is None
    assert registry.verify(deep=True).damage == ()
    assert [event.kind for event in registry.audit()][-2:] == ["version.repaired", "commit.added"]


def test_who_sends_right_bytes_over_damaged_ones_that_the_store_would_keep_is_asked_for_them_again(
    registry: Registry, tmp_path: Path
) -> None:
    """As a store does that doesn't write what it has in that size."""
    version = push(registry, tmp_path / "a")
    flip_a_byte(blob_path(registry, version, WEIGHTS))
    registry.verify(deep=True)
    weights = next(file for file in version.files if file.path == WEIGHTS)
    assert not registry.begin_upload("team", weights.sha256, weights.size).done
    with pytest.raises(BlobNotFound):
        registry.publish(Submission(AdapterName("team", "other"), version.files))
    assert registry.blobs.stat(weights.sha256) is None
    assert bring(registry, tmp_path / "a") == version.files
    assert registry.publish(Submission(AdapterName("team", "other"), version.files)).version
    assert registry.find_version(MAIN).damage is None


def test_a_shallow_look_does_not_take_back_what_a_deep_one_found(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    flip_a_byte(blob_path(registry, version, WEIGHTS))
    registry.verify(deep=True)
    assert registry.verify().damage == ()
    with pytest.raises(Damaged):
        registry.find_version(MAIN)


def test_scrubbing_reads_every_blob_once_a_month(registry: Registry, clock: Clock, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    flip_a_byte(blob_path(registry, version, WEIGHTS))
    found = [registry.scrub() for _ in version.files]
    assert [damage.sha256 for scrubbed in found if scrubbed for damage in scrubbed.damage] == [
        file.sha256 for file in version.files if file.path == WEIGHTS
    ]
    assert registry.scrub() is None
    clock.now += SCRUB_EVERY + timedelta(minutes=1)
    write_adapter(tmp_path / "a")
    push(registry, tmp_path / "a")
    assert registry.scrub() is not None
