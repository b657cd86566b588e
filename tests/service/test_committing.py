"""Commits of changes: to what main has by then, or refused; made once however often they are sent."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.domain.errors import (
    AdapterNotFound,
    BaseMismatch,
    BlobNotFound,
    FileNotInVersion,
    InvalidFile,
    NotAllowed,
    StaleCommit,
    UnsupportedAdapter,
)
from registry.domain.records import Commit, Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Role
from registry.service import Registry
from registry.service.committing import Changes, Content, Delete, Put
from tests.factories import write_adapter
from tests.service.jobs import member

OURS = AdapterName("ours", "a")
once = pytest.mark.parametrize("backend", ["sqlite"], scope="session", indirect=True)


def put(registry: Registry, path: str, data: bytes, *, sized: bool = True) -> Put:
    sha256 = hashlib.sha256(data).hexdigest()
    registry.keep("ours", [Content(sha256, len(data), lambda: [data])])
    return Put(path, sha256, len(data) if sized else None)


def adapter(registry: Registry, folder: Path, seed: int = 0, **config: object) -> tuple[Put, ...]:
    written = write_adapter(folder / str(seed), seed=seed, **config)
    return tuple(put(registry, path.name, path.read_bytes()) for path in sorted(written.iterdir()))


def commit(registry: Registry, *changes: Put | Delete, message: str = "", parent: str | None = None) -> str:
    return registry.commit(Changes(OURS, changes, message, parent))


def main(registry: Registry) -> Commit:
    return registry.commit_at(Reference(OURS))


def paths(registry: Registry) -> list[str]:
    return [file.path for file in main(registry).files]


@pytest.fixture
def empty(registry: Registry) -> Registry:
    registry.create_adapter(OURS)
    return registry


def test_changes_are_made_to_what_main_has(empty: Registry, tmp_path: Path) -> None:
    commit(empty, put(empty, "README.md", b"one"), put(empty, "a/x.txt", b"x"), put(empty, "a/y.txt", b"y"))
    assert main(empty).version is None
    commit(empty, *adapter(empty, tmp_path), message="weights")
    assert (main(empty).version, main(empty).message) == (1, "weights")
    commit(empty, Delete("a/", folder=True), put(empty, "copy.txt", b"x", sized=False), Delete("README.md"))
    assert paths(empty) == ["adapter_config.json", "adapter_model.safetensors", "copy.txt"]
    assert main(empty).version == 2
    for gone in (Delete("README.md"), Delete("a", folder=True), Delete("copy.txt", folder=True)):
        with pytest.raises(FileNotInVersion):
            commit(empty, gone)


def test_what_changes_nothing_is_no_commit(empty: Registry) -> None:
    readme = put(empty, "README.md", b"one")
    first = commit(empty, readme)
    newest = empty.newest_cursor()
    assert commit(empty, readme, message="other words") == commit(empty) == first
    assert empty.newest_cursor() == newest


def test_a_commit_that_is_sent_again_is_not_made_again(empty: Registry) -> None:
    one, two, nothing = put(empty, "README.md", b"one"), put(empty, "x.txt", b"x"), main(empty).id
    first = commit(empty, one, two, parent=nothing)
    assert commit(empty, one, two, parent=nothing) == first
    second = commit(empty, Delete("x.txt"), message="tidy", parent=first)
    assert commit(empty, Delete("x.txt"), message="tidy", parent=first) == second
    assert commit(empty, Delete("x.txt"), message="tidy") == second
    third = commit(empty, put(empty, "y.txt", b"y"), parent=second)
    assert commit(empty, Delete("x.txt"), message="tidy", parent=first) == second
    assert main(empty).id == third
    for other in ({"message": "other"}, {"message": "tidy", "parent": second}):
        with pytest.raises((StaleCommit, FileNotInVersion)):
            commit(empty, Delete("x.txt"), **other)
    stranger = member(empty, "walt", ours=Role.WRITER)
    with pytest.raises(StaleCommit):
        commit(stranger, Delete("x.txt"), message="tidy", parent=first)


def test_one_of_those_who_name_the_same_parent_commits_and_everybody_else_does(empty: Registry) -> None:
    first = commit(empty, put(empty, "README.md", b"one"))
    files = [put(empty, f"{number}.txt", b"x") for number in range(8)]

    def attempt(file: Put, parent: str | None) -> bool:
        try:
            commit(empty, file, message=file.path, parent=parent)
        except StaleCommit:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(lambda file: attempt(file, first), files)) == 1
        assert all(threads.map(lambda file: attempt(file, None), files))
    assert paths(empty) == [*(f"{number}.txt" for number in range(8)), "README.md"]


@once
def test_what_the_gate_refuses_is_refused(empty: Registry, tmp_path: Path) -> None:
    with pytest.raises(BaseMismatch, match=r"layers\.0\.q_proj"):
        commit(empty, *adapter(empty, tmp_path, width=8))
    with pytest.raises(BlobNotFound):
        commit(empty, Put("README.md", "0" * 64, 3))
    with pytest.raises(BlobNotFound):
        commit(empty, Put("README.md", "0" * 64))
    for path, error in (
        ("training_args.bin", InvalidFile),
        ("../README.md", InvalidFile),
        (".env/README.md", InvalidFile),
        ("adapter_model.bin", UnsupportedAdapter),
    ):
        with pytest.raises(error):
            commit(empty, put(empty, path, b"x"))
    assert empty.writable(OURS).head is None


@once
def test_bytes_of_another_team_are_not_ones_own(empty: Registry) -> None:
    put(empty, "README.md", b"secret")
    theirs = AdapterName("theirs", "a")
    empty.create_adapter(theirs)
    for size in (6, None):
        with pytest.raises(BlobNotFound):
            empty.commit(Changes(theirs, (Put("README.md", hashlib.sha256(b"secret").hexdigest(), size),)))


@once
def test_only_writers_commit_and_only_to_what_is_there(empty: Registry) -> None:
    empty.create_team("theirs")
    readme = put(empty, "README.md", b"one")
    reader, stranger = member(empty, "rita", ours=Role.READER), member(empty, "eve", theirs=Role.OWNER)
    for who, error in ((reader, NotAllowed), (stranger, AdapterNotFound)):
        with pytest.raises(error):
            commit(who, readme)
        with pytest.raises(error):
            who.writable(OURS)
    commit(member(empty, "walt", ours=Role.WRITER), readme)
    assert main(empty).author == "walt"
    empty.delete_adapter(OURS, reason="wrong corpus")
    with pytest.raises(AdapterNotFound):
        commit(empty, readme)
    empty.create_adapter(OURS)
    commit(empty, put(empty, "x.txt", b"x"))
    assert paths(empty) == ["x.txt"]


@once
def test_while_the_newest_is_withdrawn_changes_are_made_to_what_main_shows(empty: Registry, tmp_path: Path) -> None:
    first = commit(empty, *adapter(empty, tmp_path))
    commit(empty, *adapter(empty, tmp_path, seed=1))
    empty.set_status(Reference.parse("ours/a@v2"), Status.REVOKED, reason="leaked")
    commit(empty, put(empty, "README.md", b"better words"), parent=first)
    assert (main(empty).version, main(empty).message) == (1, "")
    empty.set_status(Reference.parse("ours/a@v1"), Status.REVOKED, reason="leaked")
    commit(empty, *adapter(empty, tmp_path, seed=2))
    assert main(empty).version == 3
