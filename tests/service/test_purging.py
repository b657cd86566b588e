from pathlib import Path

import pytest

from registry.domain.errors import AliasInUse, Gone, NotAllowed
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.publishing import Submission
from tests.factories import write_adapter
from tests.service.jobs import member
from tests.service.test_collecting import NAME, NOTHING, digests, push, stored

V1 = Reference.parse("team/support@v1")


def test_the_bytes_of_a_purged_version_are_gone_and_its_tombstone_stays(registry: Registry, tmp_path: Path) -> None:
    leaked = push(registry, tmp_path / "a")
    kept = push(registry, tmp_path / "b", seed=1)
    purged = registry.purge(V1, reason="a customer's data")
    assert stored(registry) == digests(kept)
    assert (purged.blobs, purged.kept) == (1, len(digests(kept) & digests(leaked)))
    assert list(registry.blobs.staged()) == []
    found = registry.peek(V1)
    assert (found.status, found.status_reason, found.digest) == (Status.PURGED, "a customer's data", leaked.digest)
    with pytest.raises(Gone):
        registry.find_version(V1)
    with pytest.raises(Gone):
        push(registry, tmp_path / "a")
    assert "blobs.removed" in [event.kind for event in registry.audit()]
    assert registry.verify(deep=True).damage == ()
    assert registry.purge(V1, reason="again").blobs <= 1  # what the refused push stored


def test_what_another_team_has_stays_with_it_alone(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path / "a")
    theirs = push(registry, tmp_path / "a", AdapterName("other", "support"))
    purged = registry.purge(V1, reason="leaked")
    assert (purged.blobs, purged.kept) == (0, len(theirs.files))
    registry.collect(grace=NOTHING)
    assert stored(registry) == digests(theirs)
    with registry.database.reading() as catalog:
        assert catalog.blobs.possessed("team", digests(theirs)) == set()
        assert catalog.blobs.possessed("other", digests(theirs)) == digests(theirs)


def test_a_commit_of_the_same_file_without_a_version_keeps_nothing(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    readme = tuple(file for file in version.files if file.path == "README.md")
    registry.publish(Submission(NAME, readme))
    registry.purge(V1, reason="leaked")
    assert stored(registry) == set()


def test_purging_an_adapter_empties_store_and_staging_also_after_it_was_deleted(
    registry: Registry, tmp_path: Path
) -> None:
    version = push(registry, tmp_path / "a")
    config = next(file for file in version.files if file.path == "adapter_config.json")
    registry.delete_adapter(NAME, reason="they leave")
    assert stored(registry) == digests(version)
    purged = registry.purge_adapter(NAME, reason="they leave")
    assert (purged.subject, purged.blobs, purged.kept) == ("team/support", len(version.files), 0)
    assert stored(registry) == set()
    assert not registry.begin_upload("team", config.sha256, config.size).done


def test_an_upload_of_the_same_content_goes_too(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    other = member(registry, "ada", team=Role.OWNER)
    weights = next(file for file in version.files if file.path.endswith(".safetensors"))
    registry.blobs.delete(weights.sha256)
    upload = other.begin_upload("team", weights.sha256, weights.size).upload
    assert upload
    part = other.open_part(upload.id, 1)
    part.write((write_adapter(tmp_path / "a") / weights.path).read_bytes())
    part.finish()
    assert list(registry.blobs.staged())
    registry.purge(V1, reason="leaked")
    assert list(registry.blobs.staged()) == []


def test_an_alias_is_not_purged_unless_forced_and_only_by_an_admin(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path / "a")
    registry.promote(V1, "production")
    with pytest.raises(NotAllowed):
        member(registry, "bob", team=Role.WRITER).purge(V1, reason="x", force=True)
    with pytest.raises(AliasInUse):
        registry.purge(V1, reason="leaked")
    assert registry.purge(V1, reason="leaked", force=True).blobs == 3
