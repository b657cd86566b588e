"""Quotas: what counts, what is refused, and that nobody overruns one by being quick."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.domain.errors import AdaptersError, NotAllowed, QuotaExceeded, TeamNotFound
from registry.domain.quotas import Quota, Usage
from registry.domain.reference import AdapterName
from registry.domain.rights import Caller, Role
from registry.service import Registry
from registry.service.committing import Content
from registry.service.publishing import Publication, Submission
from registry.service.upkeep import tidy
from tests.factories import write_adapter


def push(registry: Registry, folder: Path, name: str, seed: int) -> Publication:
    return registry.push_folder(write_adapter(folder, seed=seed), Submission(AdapterName.parse(name), ()))


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_content_counts_once_for_each_team_that_has_it(registry: Registry, tmp_path: Path) -> None:
    for name, seed in (("ours/a", 0), ("ours/b", 0), ("ours/b", 1), ("theirs/a", 0)):
        push(registry, tmp_path / str(seed), name, seed)
    one = sizes(tmp_path / "0")
    both = sum(one.values()) + one["adapter_model.safetensors"]
    assert registry.quota("OURS").usage == Usage(bytes=both, versions=3, adapters=2)
    assert registry.quota("theirs").usage == Usage(bytes=sum(one.values()), versions=1, adapters=1)
    registry.delete_adapter(AdapterName("ours", "b"), reason="no longer needed")
    assert registry.quota("ours").usage == Usage(bytes=sum(one.values()), versions=1, adapters=1)


@pytest.mark.parametrize(
    ("quota", "name", "refused"),
    [
        (Quota(versions=1), "ours/a", ("versions", 1, 1, 1)),
        (Quota(adapters=1), "ours/b", ("adapters", 1, 1, 1)),
        (Quota(bytes=5000), "ours/a", None),
    ],
)
def test_a_push_beyond_a_quota_leaves_nothing_and_says_how_much_of_what(
    registry: Registry, tmp_path: Path, quota: Quota, name: str, refused: tuple[str, int, int, int] | None
) -> None:
    push(registry, tmp_path / "0", "ours/a", 0)
    before = registry.quota("ours").usage
    registry.set_quota("ours", quota)
    with pytest.raises(QuotaExceeded) as caught:
        push(registry, tmp_path / "1", name, 1)
    added = sizes(tmp_path / "1")["adapter_model.safetensors"]
    expected = refused or ("bytes", before.bytes, added, 5000)
    assert (caught.value.what, caught.value.used, caught.value.asked, caught.value.limit) == expected
    assert registry.quota("ours").usage == before
    assert push(registry, tmp_path / "0", "ours/a", 0).created is False  # what is there adds nothing
    registry.set_quota("ours", Quota())
    assert push(registry, tmp_path / "1", name, 1).created


def test_bytes_are_kept_up_as_they_would_be_counted(registry: Registry, tmp_path: Path) -> None:
    registry.create_team("ours")
    registry.set_quota("ours", Quota(bytes=10**9))

    def counted() -> int:
        with registry.database.reading() as catalog:
            return catalog.quotas.count_bytes("ours")

    for name, seed in (("a", 0), ("a", 1), ("b", 1), ("a", 0), ("b", 2)):
        push(registry, tmp_path / str(seed), f"ours/{name}", seed)
        assert registry.quota("ours").usage.bytes == counted()
    registry.delete_adapter(AdapterName("ours", "b"), reason="old")
    assert registry.quota("ours").usage.bytes == counted()
    push(registry, tmp_path / "3", "ours/b", 3)
    assert registry.quota("ours").usage.bytes == counted()
    with registry.database.writing() as catalog:
        catalog.quotas.keep("ours", 1)
    assert tidy(registry)
    assert registry.quota("ours").usage.bytes == counted()


def test_pushes_at_once_do_not_overrun_a_quota(registry: Registry, tmp_path: Path) -> None:
    push(registry, tmp_path / "0", "ours/a", 0)
    registry.set_quota("ours", Quota(versions=4))
    folders = {seed: write_adapter(tmp_path / str(seed), seed=seed) for seed in range(1, 9)}

    def attempt(seed: int) -> bool:
        name = AdapterName("ours", f"a{seed % 3}")
        try:
            return registry.push_folder(folders[seed], Submission(name, ())).created
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(attempt, folders)) == 3
    assert registry.quota("ours").usage.versions == 4


def test_files_on_their_way_in_count_before_they_are_sent(registry: Registry) -> None:
    registry.create_team("ours")
    registry.set_quota("ours", Quota(bytes=100, uploads=2))
    first = registry.begin_upload("ours", "1" * 64, 60).upload
    assert first is not None
    for size in (41, 2**40):
        with pytest.raises(QuotaExceeded) as caught:
            registry.begin_upload("ours", "2" * 64, size)
        assert (caught.value.what, caught.value.used, caught.value.asked) == ("bytes", 60, size)
    registry.begin_upload("ours", "2" * 64, 40)
    assert registry.begin_upload("ours", "1" * 64, 60).upload == first  # going on is no new one
    assert registry.quota("ours").usage == Usage(uploads=2, incoming=100)
    registry.abandon_upload(first.id)
    registry.begin_upload("ours", "3" * 64, 10)
    with pytest.raises(QuotaExceeded, match="2 uploads"):
        registry.begin_upload("ours", "4" * 64, 10)


def test_only_operators_set_quotas_and_only_readers_see_them(registry: Registry) -> None:
    registry.create_team("ours")
    refusals: list[tuple[Caller, type[AdaptersError], type[AdaptersError] | None]] = [
        (Caller("ann", roles={"ours": Role.OWNER}), NotAllowed, None),
        (Caller("eve"), TeamNotFound, TeamNotFound),
    ]
    for caller, setting, seeing in refusals:
        other = registry.on_behalf_of(caller)
        with pytest.raises(setting):
            other.set_quota("ours", Quota(bytes=1))
        if seeing is None:
            assert other.quota("ours").quota == Quota()
        else:
            with pytest.raises(seeing):
                other.quota("ours")


def test_files_that_are_kept_for_a_commit_count_before_there_is_one(registry: Registry) -> None:
    registry.create_team("ours")
    registry.set_quota("ours", Quota(bytes=1_000))
    keep(registry, b"a" * 600)
    keep(registry, b"a" * 600)  # what is there adds nothing
    with pytest.raises(QuotaExceeded) as caught:
        keep(registry, b"b" * 600)
    assert (caught.value.used, caught.value.asked) == (600, 600)
    assert registry.blobs.stat(hashlib.sha256(b"b" * 600).hexdigest()) is None
    assert registry.quota("ours").usage == Usage(incoming=600)


def keep(registry: Registry, data: bytes) -> None:
    registry.keep("ours", [Content(hashlib.sha256(data).hexdigest(), len(data), lambda: [data])])
