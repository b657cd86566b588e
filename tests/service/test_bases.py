"""Base models that are published: commits that hold a whole model, known by its fingerprint, and make no version."""

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdaptersError,
    BaseNotFound,
    InvalidBase,
    InvalidFile,
    NotAllowed,
    OtherLine,
    VersionNotFound,
    WholeModel,
    WrongUsage,
)
from registry.domain.records import BasePlace, Commit, Evidence, FileEntry
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.formats.base_model import index_base
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Publication, Submission
from tests.factories import write_adapter, write_model
from tests.service.jobs import member, once

NAME = AdapterName("models", "toy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


def publish(registry: Registry, folder: Path, name: AdapterName = NAME, label: str | None = None) -> Publication:
    return registry.publish_base(folder, Submission(name, (), base=BaseClaim(label) if label else None))


def head(registry: Registry, name: AdapterName = NAME) -> Commit | None:
    with registry.database.reading() as catalog:
        return catalog.commits.head(name)


def test_a_base_is_a_commit_with_its_fingerprint_and_no_version(registry: Registry, folder: Path) -> None:
    published = publish(registry, folder)
    fingerprint = index_base(folder).fingerprint
    assert (published.base, published.created, published.version) == (fingerprint, True, None)
    assert published.left_out == ("training_args.bin",)
    commit = head(registry)
    assert commit is not None and (commit.id, commit.base, commit.version) == (published.commit, fingerprint, None)
    assert [file.path for file in commit.files] == [
        "README.md",
        "config.json",
        "model-0.safetensors",
        "model-1.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
    ]
    base = registry.base("models/toy")  # what clients of the Hub call it
    assert base.fingerprint == fingerprint
    assert registry.base_places(base) == [BasePlace(NAME, published.commit)]
    with pytest.raises(VersionNotFound):
        registry.find_version(Reference(NAME))
    assert [event.kind for event in registry.audit()][-2:] == ["base.added", "commit.added"]


@once
def test_the_same_again_is_the_same_commit_and_a_new_readme_needs_no_hashing(
    registry: Registry, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = publish(registry, folder)
    again = publish(registry, folder)
    assert (again.commit, again.created) == (first.commit, False)
    (folder / "README.md").write_text("# better")
    monkeypatch.setattr("registry.service.base_gate.inspect_base", None)
    commit = head(registry)
    assert commit is not None
    readme = b"# best"
    entry = FileEntry("README.md", hashlib.sha256(readme).hexdigest(), len(readme))
    registry.blobs.put([readme], sha256=entry.sha256, size=entry.size)
    with registry.database.writing() as catalog:
        catalog.blobs.register("models", [(entry.sha256, entry.size)], at=registry.clock())
    files = (*(file for file in commit.files if file.path != "README.md"), entry)
    changed = registry.publish(Submission(NAME, files))  # nobody has to say that it is a base: the line tells
    assert (changed.base, changed.created) == (first.base, True)


@once
def test_sharding_is_no_other_base(registry: Registry, tmp_path: Path) -> None:
    one = publish(registry, write_model(tmp_path / "one", shards=1), label="org/toy")
    merged = tmp_path / "same"
    shutil.copytree(tmp_path / "one", merged)
    (merged / "model.safetensors").rename(merged / "other.safetensors")
    two = publish(registry, merged, AdapterName("models", "copy"))
    assert two.base == one.base and two.commit != one.commit
    assert [str(place.name) for place in registry.base_places(registry.base("org/toy"))] == [
        "models/copy",
        "models/toy",
    ]


@once
def test_adapters_are_made_for_what_was_published(registry: Registry, folder: Path, tmp_path: Path) -> None:
    published = publish(registry, folder)
    adapter = write_adapter(tmp_path / "adapter", base_model_name_or_path="models/toy")
    version = registry.push_folder(adapter, Submission(AdapterName("ours", "a"), ())).version
    assert version is not None
    assert (version.base.fingerprint, version.base.evidence) == (published.base, Evidence.STRUCTURAL)


@once
def test_a_whole_model_that_is_pushed_as_an_adapter_is_refused_by_the_right_command(
    registry: Registry, folder: Path, tmp_path: Path
) -> None:
    for model in (folder, write_model(tmp_path / "one", shards=1)):
        with pytest.raises(WholeModel) as refused:
            registry.push_folder(model, Submission(AdapterName("ours", "a"), ()))
        assert "adapters base publish" in refused.value.hint
    publish(registry, folder)
    commit = head(registry)
    assert commit is not None
    with pytest.raises(WholeModel):
        registry.publish(Submission(AdapterName("models", "b"), commit.files))


@once
def test_a_line_holds_adapters_or_a_base(registry: Registry, folder: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    publish(registry, folder)
    with pytest.raises(OtherLine, match="models/toy holds a base model"):
        registry.push_folder(adapter, Submission(NAME, ()))
    registry.push_folder(adapter, Submission(AdapterName("models", "a"), ()))
    with pytest.raises(OtherLine, match="models/a holds adapters"):
        publish(registry, folder, AdapterName("models", "a"))
    commit = head(registry)
    assert commit is not None
    readme = tuple(file for file in commit.files if file.path == "README.md")
    with pytest.raises(InvalidBase):
        registry.publish(Submission(NAME, readme))
    assert head(registry) == commit


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_a_shard(folder: Path) -> None:
    (folder / "model-1.safetensors").unlink()


def _link(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("/etc/hostname")


@once
@pytest.mark.parametrize(
    ("damage", "error"), [(_without_config, InvalidBase), (_without_a_shard, InvalidFile), (_link, InvalidFile)]
)
def test_what_is_no_whole_model_is_refused(
    registry: Registry, folder: Path, damage: Callable[[Path], None], error: type[AdaptersError]
) -> None:
    damage(folder)
    with pytest.raises(error):
        publish(registry, folder)
    assert head(registry) is None


@once
@pytest.mark.parametrize("path", ["adapter_config.json", "extra.safetensors", "code.py", "weights.bin"])
def test_the_gate_reads_the_files_where_they_lie_and_lets_nothing_else_in(
    registry: Registry, folder: Path, path: str
) -> None:
    publish(registry, folder)
    commit = head(registry)
    assert commit is not None
    config = next(file for file in commit.files if file.path == "config.json")
    smuggled = (*commit.files, replace(config, path=path))
    with pytest.raises(InvalidBase, match=path.replace(".", r"\.")):
        registry.publish(Submission(AdapterName("models", "b"), smuggled, holds_base=True))


@once
def test_only_operators_register_a_base_with_its_files(registry: Registry, folder: Path, tmp_path: Path) -> None:
    registry.create_team("models")
    ann = member(registry, "ann", models=Role.WRITER)
    with pytest.raises(BaseNotFound):
        publish(ann, folder)
    with pytest.raises(NotAllowed):
        publish(ann, folder, label="org/toy")
    registry.add_base("org/toy", index_base(folder))
    assert publish(ann, folder).created
    assert not publish(ann, folder, label="org/toy").created
    with pytest.raises(InvalidBase, match="another base"):
        publish(ann, write_model(tmp_path / "other", seed=9), label="org/toy")
    eve = member(registry, "eve")
    assert eve.base_places(eve.base("org/toy")) == []  # not theirs to see
    with pytest.raises(WrongUsage):
        registry.publish_base(folder, Submission(NAME, (), aliases=("production",)))


@once
def test_links_of_the_hugging_face_cache_are_followed(registry: Registry, folder: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "0", tmp_path / "models--x" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        shutil.copy(file, blobs / f"{file.name}.blob")
        (snapshot / file.name).symlink_to(f"../../blobs/{file.name}.blob")
    assert publish(registry, snapshot).base == index_base(folder).fingerprint
