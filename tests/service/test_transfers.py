import json
import shutil
from pathlib import Path

import pytest

from registry.blobs.filesystem import FolderStore
from registry.domain.bases import BaseIndex, BaseTensor
from registry.domain.errors import BlobNotFound, DigestMismatch, FileNotInVersion, InvalidFile, TargetTaken
from registry.domain.records import Evidence, Version
from registry.domain.reference import AdapterName, Reference
from registry.service import Registry
from registry.service.bases import BaseClaim
from registry.service.publishing import Submission
from registry.service.workfolder import Pull
from tests.factories import write_adapter, write_tensors

NAME = AdapterName("team", "support")


def push(registry: Registry, folder: Path) -> Version:
    version = registry.push_folder(folder, Submission(NAME, ())).version
    assert version is not None
    return version


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


def blob_path(registry: Registry, version: Version, path: str) -> Path:
    (sha256,) = [file.sha256 for file in version.files if file.path == path]
    assert isinstance(registry.blobs, FolderStore)
    return registry.blobs.root / "blobs" / sha256[:2] / sha256


def flip_a_byte(path: Path) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_what_is_pulled_is_what_was_pushed(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "added_tokens.json").write_text("{}")
    pull = registry.pull(push(registry, folder), tmp_path / "out")
    assert tree(pull.folder) == tree(folder)
    assert pull.files == 4


def test_a_second_pull_moves_no_bytes(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    first = registry.pull(version, tmp_path / "out")
    inode = (tmp_path / "out" / "adapter_model.safetensors").stat().st_ino
    second = registry.pull(version, tmp_path / "out")
    assert first.bytes_moved == version.size
    assert second == Pull(tmp_path / "out", 3, 0)
    assert (tmp_path / "out" / "adapter_model.safetensors").stat().st_ino == inode


def test_a_pull_over_an_older_one_moves_only_what_changed_and_drops_what_is_gone(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a", seed=1)
    (folder / "old.txt").write_text("old")
    registry.pull(push(registry, folder), tmp_path / "out")
    (folder / "old.txt").unlink()
    newer = push(registry, write_adapter(folder, seed=2))
    pull = registry.pull(newer, tmp_path / "out")
    assert tree(tmp_path / "out") == tree(folder)
    assert pull.bytes_moved == (folder / "adapter_model.safetensors").stat().st_size
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_pull_repairs_a_file_that_was_changed_since(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    version = push(registry, folder)
    registry.pull(version, tmp_path / "out")
    flip_a_byte(tmp_path / "out" / "adapter_model.safetensors")
    assert registry.pull(version, tmp_path / "out").bytes_moved > 0
    assert tree(tmp_path / "out") == tree(folder)


def test_a_folder_that_no_pull_left_is_not_touched(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(TargetTaken):
        registry.pull(version, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(TargetTaken):
        registry.pull(version, tmp_path / "file")


def test_pull_refuses_a_blob_whose_digest_differs_and_leaves_nothing(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    flip_a_byte(blob_path(registry, version, "adapter_model.safetensors"))
    with pytest.raises(DigestMismatch):
        registry.pull(version, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"a", "blobs"} | _databases(tmp_path))


def test_a_pull_goes_on_where_a_killed_one_was_and_only_its_digest_is_believed(
    registry: Registry, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "a")
    version = push(registry, folder)
    weights = next(file for file in version.files if file.path == "adapter_model.safetensors")
    data = (folder / weights.path).read_bytes()
    for left, moves in (
        (data[:100], weights.size - 100),
        (b"wrong", 2 * weights.size - 5),
        (data + b"x", weights.size),
    ):
        landing = tmp_path / ".out.pull"
        landing.mkdir()
        (landing / f"{weights.sha256}.part").write_bytes(left)
        for file in version.files:
            if file != weights:
                (landing / file.sha256).write_bytes((folder / file.path).read_bytes())
        seen: list[tuple[int, int]] = []

        def watch(_what: str, done: int, total: int, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((done, total))

        pull = registry.pull(version, tmp_path / "out", progress=watch)
        assert (pull.bytes_moved, seen[-1]) == (moves, (weights.size, weights.size))
        assert tree(tmp_path / "out") == tree(folder)
        assert not landing.exists()
        shutil.rmtree(tmp_path / "out")


def test_a_pull_that_fails_midway_is_gone_on_with(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    version = push(registry, folder)

    def interrupted(_what: str, done: int, _total: int) -> None:
        if done == version.size:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.pull(version, tmp_path / "out", progress=interrupted)
    assert not (tmp_path / "out").exists()
    assert registry.pull(version, tmp_path / "out").bytes_moved == 0
    assert tree(tmp_path / "out") == tree(folder)


def test_two_pulls_at_once_do_not_spoil_each_other(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    version = push(registry, folder)
    pulled: list[Pull] = []

    def another(_what: str, _done: int, _total: int) -> None:
        if not pulled:
            pulled.append(registry.pull(version, tmp_path / "out"))

    first = registry.pull(version, tmp_path / "out", progress=another)
    assert [first.bytes_moved, pulled[0].bytes_moved] == [version.size] * 2
    assert tree(tmp_path / "out") == tree(folder)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".out")] == []


def test_a_landing_that_somebody_laid_elsewhere_is_not_used(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".out.pull").symlink_to(tmp_path / "elsewhere")
    registry.pull(version, tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def _databases(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if ".db" in path.name or "sqlite" in path.name}


def test_a_failed_pull_leaves_the_earlier_one_whole(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a", seed=1)
    registry.pull(push(registry, folder), tmp_path / "out")
    before = tree(tmp_path / "out")
    newer = push(registry, write_adapter(folder, seed=2))
    blob_path(registry, newer, "adapter_model.safetensors").unlink()
    with pytest.raises(BlobNotFound):
        registry.pull(newer, tmp_path / "out")
    assert tree(tmp_path / "out") == before


def test_pushing_the_same_content_again_repairs_a_lost_blob(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    version = push(registry, folder)
    blob_path(registry, version, "adapter_model.safetensors").unlink()
    push(registry, folder)
    assert registry.verify(deep=True).damage == ()


def test_trainers_leftovers_are_not_pushed(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    for name in ("training_args.bin", "optimizer.pt", "rng_state_0.pth", "trainer_state.json", ".DS_Store"):
        (folder / name).write_bytes(b"\x80\x04pickle")
    (folder / "checkpoint-10").mkdir()
    (folder / "checkpoint-10" / "adapter_config.json").write_text("{}")
    assert {file.path for file in push(registry, folder).files} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_a_symbolic_link_is_not_followed(registry: Registry, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    (tmp_path / "secret").write_text("key")
    (folder / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidFile, match=r"notes\.txt"):
        push(registry, folder)


def test_an_empty_or_missing_folder_is_refused(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing"):
        with pytest.raises(InvalidFile):
            push(registry, tmp_path / name)


def test_a_hostile_note_is_no_note(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    (tmp_path / "out").mkdir()
    note = {"reference": "x", "digest": "y", "files": [{"path": "../a/README.md", "sha256": "0" * 64, "size": 1}]}
    (tmp_path / "out" / ".adapter.json").write_text(json.dumps(note))
    with pytest.raises(TargetTaken):
        registry.pull(version, tmp_path / "out")


def test_one_file_of_a_version_can_be_read(registry: Registry, tmp_path: Path) -> None:
    version = push(registry, write_adapter(tmp_path / "a"))
    with registry.open_file(version, "README.md") as stream:
        assert stream.read() == b"# toy\n"
    with pytest.raises(FileNotInVersion):
        registry.open_file(version, "nothing.txt")


def test_progress_reaches_its_end(registry: Registry, tmp_path: Path) -> None:
    seen: dict[str, tuple[int, int]] = {}
    folder = write_adapter(tmp_path / "a")

    def watch(what: str, done: int, total: int) -> None:
        seen[what] = (done, total)

    version = registry.push_folder(folder, Submission(NAME, ()), progress=watch).version
    assert version is not None
    registry.pull(registry.find_version(Reference(NAME)), tmp_path / "out", progress=watch)
    assert seen == dict.fromkeys(("storing", "pulling"), (version.size, version.size))


def test_a_single_file_is_an_adapter_and_nothing_beside_it_is_taken(registry: Registry, tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    shapes = {f"{layer}.lora_down.weight": (2, 6), f"{layer}.lora_up.weight": (8, 2)}
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "secret.txt").write_text("key")
    path = tmp_path / "files" / "style.safetensors"
    write_tensors(path, shapes)
    version = push(registry, path)
    assert [file.path for file in version.files] == ["style.safetensors"]
    assert (version.summary.format, version.summary.rank) == ("kohya", 2)
    (tmp_path / "link.safetensors").symlink_to(path)
    with pytest.raises(InvalidFile, match="symbolic link"):
        push(registry, tmp_path / "link.safetensors")


def test_a_component_of_a_base_is_what_a_layer_is_matched_to(registry: Registry, tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    write_tensors(tmp_path / "a.safetensors", {f"{layer}.lora_down.weight": (2, 6), f"{layer}.lora_up.weight": (8, 2)})
    tensors = tuple(
        BaseTensor(component, f"{name}.weight", "F32", shape, 4, "0" * 64)
        for component, name, shape in (
            ("unet", "mid_block.attentions.0.proj_in", (8, 6)),
            ("text_encoder", "mid_block.attentions.0.proj_in", (9, 6)),
        )
    )
    registry.add_base("sd", BaseIndex("safetensors", None, tensors))
    version = registry.push_folder(tmp_path / "a.safetensors", Submission(NAME, (), base=BaseClaim("sd"))).version
    assert version is not None and version.base.evidence is Evidence.STRUCTURAL
    assert [module.base_tensor for module in registry.modules(version)] == [
        "unet/mid_block.attentions.0.proj_in.weight"
    ]
