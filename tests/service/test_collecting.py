"""Collection: what is kept, what goes, and the races that must lose nothing."""

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.errors import AdapterNotFound, BlobNotFound, NotAllowed, StorageFailure, WrongUsage
from registry.domain.records import FileEntry, Version
from registry.domain.reference import AdapterName, Reference
from registry.domain.xorbs import Span
from registry.service import Registry
from registry.service.collecting import GRACE
from registry.service.publishing import Submission
from registry.sql import roots
from registry.sql.tables.everything import metadata
from tests.factories import write_adapter
from tests.service.jobs import Clock, member

NAME = AdapterName("team", "support")
NOTHING = timedelta(0)
WHOLE = timedelta(hours=25)


def push(registry: Registry, folder: Path, name: AdapterName = NAME, seed: int = 0) -> Version:
    publication = registry.push_folder(write_adapter(folder, seed=seed), Submission(name, ()))
    assert publication.version is not None
    return publication.version


def stored(registry: Registry) -> set[str]:
    return {stat.sha256 for stat in registry.blobs.list()}


def digests(*versions: Version) -> set[str]:
    return {file.sha256 for version in versions for file in version.files}


def bring(registry: Registry, folder: Path, seed: int = 0) -> tuple[FileEntry, ...]:
    """Let the team have the files of an adapter that nobody has published."""
    files = []
    for path in sorted(write_adapter(folder, seed=seed).iterdir()):
        kept = registry.blobs.ingest(lambda path=path: [path.read_bytes()])  # type: ignore[misc]
        files.append(FileEntry(path.name, kept.sha256, kept.size))
    with registry.database.writing() as catalog:
        catalog.blobs.register("team", [(file.sha256, file.size) for file in files], at=registry.clock())
    return tuple(files)


def delete(registry: Registry, name: AdapterName = NAME) -> None:
    registry.delete_adapter(name, reason="wrong corpus")


class Interrupting(FolderStore):
    """A folder in whose deletions something happens; `instead` is called with what deletes."""

    instead: Callable[[Callable[[], bool]], bool] | None = None

    def delete(self, sha256: str) -> bool:
        def really() -> bool:
            return super(Interrupting, self).delete(sha256)

        return really() if self.instead is None else self.instead(really)


@pytest.fixture
def store(registry: Registry) -> Interrupting:
    assert isinstance(registry.blobs, FolderStore)
    registry.blobs = store = Interrupting(registry.blobs.root)
    return store


def test_what_a_deleted_adapter_had_goes_after_the_grace_and_what_another_shares_stays(
    registry: Registry, clock: Clock, tmp_path: Path
) -> None:
    lost = push(registry, tmp_path / "a")
    kept = push(registry, tmp_path / "b", AdapterName("other", "support"), seed=1)  # the same config and README
    delete(registry)
    assert registry.collect().blobs == 0
    assert stored(registry) == digests(lost, kept)
    clock.now += WHOLE
    done = registry.collect()
    assert stored(registry) == digests(kept)
    (gone,) = digests(lost) - digests(kept)
    assert (done.blobs, done.bytes) == (1, next(file.size for file in lost.files if file.sha256 == gone))
    (event,) = [event for event in registry.audit() if event.kind == "blobs.removed"]
    assert (event.payload["sha256"], event.payload["bytes"]) == ([gone], done.bytes)
    assert registry.verify(deep=True).damage == ()
    assert registry.collect().blobs == 0


def test_a_dry_run_says_what_a_run_does_and_does_nothing(registry: Registry, clock: Clock, tmp_path: Path) -> None:
    push(registry, tmp_path / "a")
    delete(registry)
    before = stored(registry)
    assert registry.collect(dry_run=True).waiting == len(before)
    wanted = registry.collect(dry_run=True, grace=NOTHING)
    assert stored(registry) == before
    done = registry.collect(grace=NOTHING)
    assert (wanted.blobs, wanted.bytes) == (done.blobs, done.bytes) == (len(before), done.bytes)
    assert stored(registry) == set()


def test_bytes_that_the_catalog_does_not_know_are_found_by_listing(registry: Registry, clock: Clock) -> None:
    registry.blobs.ingest(lambda: [b"left by a killed push"])
    clock.now = next(registry.blobs.list()).modified_at + timedelta(hours=23)
    assert registry.collect().blobs == 0
    clock.now += timedelta(hours=2)
    assert registry.collect(dry_run=True).unknown == 1
    done = registry.collect()
    assert (done.unknown, done.blobs) == (1, 1)
    assert stored(registry) == set()


def test_whoever_is_told_that_a_file_is_there_has_the_grace_to_publish_it(
    registry: Registry, clock: Clock, tmp_path: Path
) -> None:
    files = bring(registry, tmp_path / "a")
    clock.now += GRACE - timedelta(minutes=1)
    assert all(registry.begin_upload("team", file.sha256, file.size).done for file in files)
    registry.collect()
    clock.now += GRACE - timedelta(minutes=1)
    registry.collect()
    assert registry.publish(Submission(NAME, files)).version
    clock.now += WHOLE
    assert registry.collect().blobs == 0


def test_whoever_is_later_is_refused_and_sends_again(registry: Registry, clock: Clock, tmp_path: Path) -> None:
    files = bring(registry, tmp_path / "a")
    clock.now += WHOLE
    registry.collect()
    with pytest.raises(BlobNotFound):
        registry.publish(Submission(NAME, files))
    assert not any(registry.begin_upload("team", file.sha256, file.size).done for file in files)
    assert push(registry, tmp_path / "a").number == 1


def test_a_killed_collector_leaves_nothing_that_a_push_trusts(
    registry: Registry, store: Interrupting, tmp_path: Path
) -> None:
    """The bytes are gone and the row is there; somebody has seen the bytes before."""
    files = bring(registry, tmp_path / "a")

    def killed(really: Callable[[], bool]) -> bool:
        really()
        raise StorageFailure("killed")

    store.instead = killed
    with pytest.raises(StorageFailure):
        registry.collect(grace=NOTHING)
    store.instead = None
    with registry.database.writing() as catalog, pytest.raises(BlobNotFound):
        registry.hold(catalog, "team", {file.sha256 for file in files})
    assert push(registry, tmp_path / "a").files == files
    assert registry.verify(deep=True).damage == ()


def test_a_push_beside_a_deletion_waits_and_writes_the_bytes_again(
    registry: Registry, store: Interrupting, tmp_path: Path
) -> None:
    bring(registry, tmp_path / "a")
    pushed: list[Version] = []
    pushing = threading.Thread(target=lambda: pushed.append(push(registry, tmp_path / "a")))

    def beside(really: Callable[[], bool]) -> bool:
        if not pushing.ident:
            pushing.start()
            pushing.join(0.3)  # it stores its bytes and waits for the rows
        return really()

    store.instead = beside
    registry.collect(grace=NOTHING)
    pushing.join()
    assert registry.verify(deep=True).damage == ()
    assert digests(*pushed) == stored(registry)


def test_a_collector_leaves_alone_what_a_push_is_about_to_refer_to(registry: Registry, tmp_path: Path) -> None:
    """What is being published is thought idle until the commit."""
    files = bring(registry, tmp_path / "a")
    collecting = threading.Thread(target=lambda: registry.collect(grace=NOTHING))
    publish = registry._publish

    with registry.database.writing() as catalog:
        publish(catalog, Submission(NAME, files), registry._checked(Submission(NAME, files)))
        collecting.start()
        collecting.join(0.3)
    collecting.join()
    registry.collect(grace=NOTHING)
    assert stored(registry) == {file.sha256 for file in files}


def test_two_collectors_remove_everything_once(registry: Registry, tmp_path: Path) -> None:
    for seed in range(20):
        bring(registry, tmp_path / "a", seed=seed)
    there, done = len(stored(registry)), []
    threads = [threading.Thread(target=lambda: done.append(registry.collect(grace=NOTHING).blobs)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done.append(registry.collect(grace=NOTHING).blobs)
    assert sum(done) == there
    assert stored(registry) == set()


def test_a_commit_without_a_version_keeps_its_files_until_its_adapter_is_deleted(
    registry: Registry, tmp_path: Path
) -> None:
    files = tuple(file for file in bring(registry, tmp_path / "a") if file.path == "README.md")
    assert registry.publish(Submission(NAME, files)).version is None
    registry.collect(grace=NOTHING)
    assert stored(registry) == {file.sha256 for file in files}
    delete(registry)
    registry.collect(grace=NOTHING)
    assert stored(registry) == set()


def test_results_of_examples_go_with_their_version(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, tmp_path / "a")
    registry.evaluate(
        Reference.parse("team/support@v1"), {}, dataset_sha256="0" * 64, examples=[{"id": "1", "accuracy": 1.0}]
    )
    registry.collect(grace=NOTHING)
    assert len(stored(registry)) == len(version.files) + 1
    delete(registry)
    registry.collect(grace=NOTHING)
    assert stored(registry) == set()


def test_collecting_is_for_operators(registry: Registry) -> None:
    with pytest.raises(NotAllowed):
        member(registry, "ada").collect()
    with pytest.raises(WrongUsage):
        registry.collect(grace=timedelta(seconds=-1))


def test_every_column_that_points_at_blobs_is_a_root_a_right_or_a_memory() -> None:
    pointing = {
        f"{table.name}.{column.name}"
        for table in metadata().sorted_tables
        for column in table.columns
        if any(key.column.table.name == "blobs" for key in column.foreign_keys)
    }
    named = {*roots.ROOTS, *roots.RIGHTS, *roots.MEMORIES}
    assert pointing <= named
    assert named <= {f"{table.name}.{column.name}" for table in metadata().sorted_tables for column in table.columns}


def test_a_deleted_name_that_is_pushed_again_has_its_bytes(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path / "a")
    delete(registry)
    registry.collect(grace=NOTHING)
    version = push(registry, tmp_path / "b", seed=2)  # the same config and README, which only the purged commit names
    assert version.number == 2
    assert stored(registry) == digests(version)
    registry.collect(grace=NOTHING)
    assert registry.verify(deep=True).damage == ()
    with pytest.raises(AdapterNotFound):
        registry.adapter(AdapterName("team", "other"))


def test_what_the_team_knows_of_chunks_in_a_blob_is_forgotten_with_it(registry: Registry, tmp_path: Path) -> None:
    (blob, *_) = bring(registry, tmp_path / "a")
    epoch, name = registry.xorb_epoch("team"), "0" * 64
    with registry.database.writing() as catalog:
        catalog.xorbs.keep("team", name, ends=[blob.size], staged="xorb-0", at=registry.clock())
        xorb = catalog.xorbs.find("team", name)
        assert xorb
        catalog.xorbs.remember([(xorb.id, Span(0, 1, blob.sha256, 0))])
        catalog.xorbs.unstage(xorb)
    registry.collect(grace=NOTHING)
    assert stored(registry) == set()
    with registry.database.reading() as catalog:
        assert catalog.xorbs.find("team", name) is None
    assert registry.xorb_epoch("team") != epoch
