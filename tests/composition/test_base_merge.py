"""Merging into a base: the true sum rounded once, everything else untouched, whatever happens meanwhile."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import torch

from composition.merge_job import merge
from composition.merge_plan import Merged
from registry.blobs.filesystem import FolderStore
from registry.domain.errors import (
    BaseMismatch,
    InvalidAdapter,
    InvalidFile,
    NotEnoughSpace,
    OutputTaken,
    UnsupportedAdapter,
    WrongBase,
)
from registry.domain.expression import parse
from registry.domain.reference import AdapterName
from registry.formats.base_model import index_base
from registry.service import Registry
from registry.service.publishing import Submission
from registry.sql.engine import Database
from registry.sql.schema import ensure_schema
from tests.composition.models import (
    DTYPES,
    Tensors,
    World,
    base_tensors,
    factors,
    read_tensors,
    world,
    write_base,
    write_lora,
)
from tests.factories import EXAMPLES, minilm_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # third parties' deprecations at import
    from peft import PeftModel
    from transformers import AutoModel


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A bf16 base in two shards, with demo/a (rank 4) and demo/b (rank 3, not in every module)."""
    with world(tmp_path, base_tensors()) as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1)))
        made.push("demo/b", write_lora(tmp_path / "b", factors(2, rank=3, parts=("v_proj",))))
        yield made


def run(made: World, text: str, out: str = "out", **options: object) -> Merged:
    return merge(made.registry, parse(text), base=made.base, out=made.root / out, device="cpu", **options)  # type: ignore[arg-type]


def changed(before: Tensors, after: Tensors) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def delta(seed: int, module: str, **shape: object) -> torch.Tensor:
    a, b = factors(seed, **shape)[module]  # type: ignore[arg-type]
    return 2.0 * (b.double() @ a.double())


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_merged_tensor_is_the_true_sum_rounded_once(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = base_tensors(dtype)
    with world(tmp_path, tensors, shards=3) as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1)))
        run(made, "0.5*demo/a")
        merged = read_tensors(tmp_path / "out")
    targets = {f"model.{module}.weight" for module in factors(1)}
    assert changed(tensors, merged) == targets
    for module in factors(1):
        name = f"model.{module}.weight"
        exact = tensors[name].double() + 0.5 * delta(1, module)
        wanted = exact.to(dtype)
        # One float32 sum in between may move a value that lies on the edge between two roundings.
        edge = (exact - wanted.double()).abs().max() if dtype is torch.float32 else torch.tensor(0.0)
        assert float((merged[name].double() - wanted.double()).abs().max()) <= 4 * float(edge)


def test_everything_else_is_the_base_byte_for_byte(small: World) -> None:
    merged = run(small, "demo/a + demo/b")
    out = small.root / "out"
    before, after = digests(small.base), digests(out)
    assert after.keys() == before.keys() - {"pytorch_model.bin"} | {"merge.json"}
    assert merged.left_out == ("pytorch_model.bin",)
    assert all(
        after[name] == before[name] for name in ("config.json", "tokenizer.json", "model.safetensors.index.json")
    )
    for shard in merged.shards:
        ours, theirs = (out / shard.path).read_bytes(), (small.base / shard.path).read_bytes()
        header = 8 + int.from_bytes(theirs[:8], "little")
        assert ours[:header] == theirs[:header] and len(ours) == len(theirs)
        assert shard.sha256 == after[shard.path]


def test_the_manifest_tells_recipe_base_and_digests(small: World) -> None:
    run(small, "demo/a - 0.25*demo/b")
    out = small.root / "out"
    document = json.loads((out / "merge.json").read_text())
    assert document["base"]["fingerprint"] == index_base(small.base).fingerprint
    assert document["recipe"]["inputs"][0]["adapter"].startswith("demo/")
    assert document["modules"]["model.layers.0.q_proj"] == "model.layers.0.q_proj.weight"
    found = digests(out)
    for entry in document["shards"] + document["files"]:
        assert found[entry["path"]] == entry["sha256"]
        assert (out / entry["path"]).stat().st_size == entry["size"]


def test_a_sum_merged_at_once_equals_the_published_sum_merged(small: World) -> None:
    from composition.jobs import blend

    blend(small.registry, parse("0.5*demo/a + demo/b"), AdapterName.parse("demo/sum"), device="cpu")
    run(small, "0.5*demo/a + demo/b", "terms")
    run(small, "demo/sum", "sum")
    terms, whole = read_tensors(small.root / "terms"), read_tensors(small.root / "sum")
    assert not changed(terms, whole)


def test_the_bits_do_not_depend_on_shards_or_threads(tmp_path: Path) -> None:
    results: list[Tensors] = []
    threads = torch.get_num_threads()
    for number, (shards, workers, intra) in enumerate([(1, 1, 1), (3, 1, 2), (3, 4, 1)]):
        root = tmp_path / str(number)
        root.mkdir()
        with world(root, base_tensors(), shards=shards) as made:
            made.push("demo/a", write_lora(root / "a", factors(1)))
            torch.set_num_threads(intra)
            try:
                run(made, "0.7*demo/a", workers=workers)
            finally:
                torch.set_num_threads(threads)
            results.append(read_tensors(root / "out"))
    assert not changed(results[0], results[1]) and not changed(results[0], results[2])


def test_the_bits_do_not_depend_on_the_size_of_pieces(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    run(small, "demo/a", "large")
    monkeypatch.setattr("composition.base_merge.CHUNK", 1600)  # several pieces a tensor, and a rest
    run(small, "demo/a", "little")
    assert not changed(read_tensors(small.root / "large"), read_tensors(small.root / "little"))


def test_a_base_that_stores_its_matrices_transposed_gets_the_transposed_delta(tmp_path: Path) -> None:
    tensors = base_tensors(torch.float32, transposed=True)
    with world(tmp_path, tensors, model_type="gpt2") as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1), fan_in_fan_out=True))
        run(made, "demo/a")
    merged = read_tensors(tmp_path / "out")
    for module in factors(1):
        name = f"model.{module}.weight"
        assert torch.allclose(merged[name].double() - tensors[name].double(), delta(1, module).T, atol=1e-7)


def test_another_base_is_refused_naming_both_fingerprints(small: World, tmp_path: Path) -> None:
    tensors = base_tensors()
    tensors["model.layers.0.norm.weight"] = tensors["model.layers.0.norm.weight"] + 1
    other = write_base(tmp_path / "other", tensors)
    with pytest.raises(WrongBase) as caught:
        merge(small.registry, parse("demo/a"), base=other, out=tmp_path / "out")
    assert caught.value.found == index_base(other).fingerprint
    assert index_base(small.base).fingerprint in caught.value.message
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_an_adapter_whose_base_is_only_named_is_refused(small: World, tmp_path: Path) -> None:
    folder = write_lora(tmp_path / "c", factors(3), base_model_name_or_path="org/unknown")
    small.push("demo/c", folder)
    with pytest.raises(WrongBase, match="only named"):
        run(small, "demo/c")


def test_an_output_that_exists_is_not_touched(small: World) -> None:
    out = small.root / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputTaken, match="out"):
        run(small, "demo/a")
    assert [path.name for path in out.iterdir()] == ["mine"]


def test_a_started_merge_is_not_continued_with_another_recipe(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("composition.base_merge.write_manifest", _fail)
    with pytest.raises(InvalidFile, match="planted"):
        run(small, "demo/a")
    monkeypatch.undo()
    with pytest.raises(OutputTaken, match=r"out\.partial"):
        run(small, "demo/a + demo/b")
    assert run(small, "demo/a").resumed == 2


def test_two_runs_do_not_write_into_one_folder(small: World) -> None:
    partial = small.root / "out.partial"
    partial.mkdir()
    with (partial / ".lock").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(OutputTaken, match=r"out\.partial"):
            run(small, "demo/a")
    assert run(small, "demo/a").resumed == 0


def _fail(*_: object) -> None:
    raise InvalidFile("merge.json", "test", "a planted failure")


def test_a_finished_shard_that_was_damaged_is_written_again(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("composition.base_merge.write_manifest", _fail)
    with pytest.raises(InvalidFile, match="planted"):
        run(small, "demo/a")
    monkeypatch.undo()
    shard = sorted((small.root / "out.partial").glob("*.safetensors"))[0]
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    assert run(small, "demo/a").resumed == 1
    run(small, "demo/a", "fresh")
    assert digests(small.root / "out") == digests(small.root / "fresh")


def test_a_disk_without_room_is_told_before_anything_is_written(small: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("composition.merge_folder.shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(NotEnoughSpace, match="10 are free"):
        run(small, "demo/a")


def test_a_delta_too_small_for_the_dtype_is_reported(tmp_path: Path) -> None:
    with world(tmp_path, base_tensors()) as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1, size=1e-5, parts=("v_proj",))))
        merged = run(made, "demo/a")
    assert merged.unchanged == ("model.layers.0.v_proj.weight", "model.layers.1.v_proj.weight")


def test_an_overflow_of_the_bases_dtype_is_refused(tmp_path: Path) -> None:
    with world(tmp_path, base_tensors(torch.float16)) as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1, size=200.0)))
        with pytest.raises(InvalidAdapter, match="overflow float16"):
            run(made, "demo/a")
        assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
        assert run(made, "0.0001*demo/a").resumed == 0


def test_a_module_without_a_tensor_is_an_error(small: World) -> None:
    from composition.placement import linear_spec, place_modules
    from composition.shards import headers_index
    from registry.formats.base_files import read_base

    stored = read_base(small.base)
    specs = [
        linear_spec("model.layers.0.v_proj", (40, 40), transposed=False),
        linear_spec("model.layers.7.v_proj", (40, 40), transposed=False),
    ]
    with pytest.raises(BaseMismatch, match=r"layers\.7"):
        place_modules(specs, stored, headers_index(stored), name="base")
    twice = [linear_spec(name, (40, 40), transposed=False) for name in ("model.layers.0.v_proj", "layers.0.v_proj")]
    with pytest.raises(UnsupportedAdapter, match="both adapt it"):
        place_modules(twice, stored, headers_index(stored), name="base")


def test_a_killed_run_is_continued_to_the_same_bytes(tmp_path: Path) -> None:
    with world(tmp_path, base_tensors(layers=6), shards=7) as made:
        made.push("demo/a", write_lora(tmp_path / "a", factors(1, layers=6)))
        run(made, "demo/a", "whole")
        child = subprocess.Popen([sys.executable, __file__, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."})
        try:
            deadline = time.monotonic() + 60
            while len(list((tmp_path / "out.partial").glob("[!.]*.safetensors"))) < 3:
                assert time.monotonic() < deadline and child.poll() is None
                time.sleep(0.01)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert not (tmp_path / "out").exists()
        assert 2 <= run(made, "demo/a").resumed < 7
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def slow_merge(root: Path) -> None:
    """What the killed process does: the same merge, a tenth of a second for every piece."""
    database = Database(f"sqlite:///{root / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(root / "blobs"))

    def wait(what: str, _done: int, _of: int) -> None:
        time.sleep(0.1 if what == "merging" else 0)

    merge(registry, parse("demo/a"), base=root / "base", out=root / "out", device="cpu", workers=1, progress=wait)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft of transformers
def test_minilm_with_a_trained_adapter_is_what_peft_merges(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    ensure_schema(database, migrate=True)
    registry = Registry(database, FolderStore(tmp_path / "blobs"))
    base = minilm_folder()
    registry.add_base("sentence-transformers/all-MiniLM-L6-v2", index_base(base))
    folder = EXAMPLES / "minilm-genre-r16-rslora-bf16"
    registry.push_folder(folder, Submission(AdapterName.parse("demo/genre"), ()))
    merge(registry, parse("demo/genre"), base=base, out=tmp_path / "out", device="cpu")
    registry.close()
    model = PeftModel.from_pretrained(AutoModel.from_pretrained(str(base)), str(folder)).merge_and_unload()
    ours = AutoModel.from_pretrained(str(tmp_path / "out")).state_dict()
    plain = AutoModel.from_pretrained(str(base)).state_dict()
    differing = 0
    for name, theirs in model.state_dict().items():
        assert torch.allclose(ours[name], theirs, rtol=0, atol=3e-7), name
        differing += not torch.equal(theirs, plain[name])
    assert differing == 6 * 4


if __name__ == "__main__":
    slow_merge(Path(sys.argv[1]))
