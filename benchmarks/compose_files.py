"""Two adapters of a whole Llama-2-7B (224 modules, rank 16, 80 MB each in bf16) to one, file to file with fsync.

    truncate   the sum at rank 16 again           cp of its output, then fsync
    cat        the exact sum, of rank 32          cp of its output, then fsync

Each runs in a process of its own, which times the work and not its imports: reading and hashing both files, composing,
writing, and fsync. `bytes truncate` and `bytes cat` do all of that but composing: no composition can take less.
"""

import json
import mmap
import os
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.memory import peak_mebibytes
from composition.adapter import LoadedAdapter
from composition.files import WEIGHTS_NAME, load_adapter
from composition.output_file import OutputFile
from composition.schedule import in_pool, workers_of_machine
from composition.streaming import compose_into
from composition.tensor_file import PIECE
from registry.domain.digest import CHUNK
from registry.domain.expression import parse
from registry.domain.records import FileEntry, Parent
from registry.formats.peft import read_folder

LAYERS, HIDDEN, INNER, RANK = 32, 4096, 11008, 16
NAMES = ("left", "right")
EXPRESSIONS = {"truncate": f"truncate(t/left + t/right, rank={RANK})", "cat": "t/left + t/right"}
CONTENDERS = tuple(f"{way}{kind}" for kind in EXPRESSIONS for way in ("", "cp ", "bytes "))
PARTS = {
    **{f"self_attn.{name}": (HIDDEN, HIDDEN) for name in ("q_proj", "k_proj", "v_proj", "o_proj")},
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def write_adapters(folder: Path, layers: int = LAYERS) -> None:
    """The two adapters, `left` and `right`, and what their files must be."""
    for seed, name in enumerate(NAMES):
        generator, tensors = torch.Generator().manual_seed(seed), {}
        for layer in range(layers):
            for part, (out, inside) in PARTS.items():
                path = f"base_model.model.model.layers.{layer}.{part}.lora_"
                a, b = torch.randn(RANK, inside, generator=generator), torch.randn(out, RANK, generator=generator)
                tensors[f"{path}A.weight"] = (a / inside**0.5).bfloat16()
                tensors[f"{path}B.weight"] = (b / inside**0.5).bfloat16()
        (folder / name).mkdir()
        save_file(tensors, folder / name / WEIGHTS_NAME, metadata={"format": "pt"})
        targets = [part.rpartition(".")[2] for part in PARTS]
        config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "target_modules": targets}
        (folder / name / "adapter_config.json").write_text(json.dumps(config))
        data = (folder / name / WEIGHTS_NAME).read_bytes()
        (folder / f"{name}.json").write_text(json.dumps([sha256(data).hexdigest(), len(data)]))


def measure(folder: Path, rounds: int) -> dict[str, list[list[float]]]:
    """[seconds, CPU seconds, MiB] of every contender in every round."""
    found: dict[str, list[list[float]]] = {}
    for _ in range(rounds):
        for name in CONTENDERS:
            os.sync()
            line = [sys.executable, "-m", "benchmarks.compose_files", name, str(folder)]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            found.setdefault(name, []).append(json.loads(done.stdout))
    return found


def run(name: str, folder: Path) -> None:
    way, _, kind = name.rpartition(" ")
    out = folder / name.replace(" ", "-")
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    if way != "cp":
        out.mkdir()
    work = {
        "": lambda: blend(EXPRESSIONS[kind], folder, out),
        "cp": lambda: copy(folder / kind, out),
        "bytes": lambda: move_bytes(folder, out, size=(folder / kind / WEIGHTS_NAME).stat().st_size),
    }[way]
    spent: list[float] = []

    def timed() -> None:
        started, cpu = time.perf_counter(), time.process_time()
        work()
        spent.extend((time.perf_counter() - started, time.process_time() - cpu))

    peak = peak_mebibytes(timed)
    print(json.dumps([*spent, peak]))


def blend(text: str, folder: Path, out: Path) -> None:
    specs = {name: read_folder(folder / name) for name in NAMES}

    def load(name: str) -> LoadedAdapter:
        digest, size = json.loads((folder / f"{name}.json").read_text())
        with (folder / name / WEIGHTS_NAME).open("rb") as stream:
            file = FileEntry(WEIGHTS_NAME, digest, size)
            return load_adapter(stream, specs[name], subject=name, file=file)

    loaded = dict(zip(NAMES, in_pool(load, NAMES, workers_of_machine()), strict=True))
    inputs = {sha256(name.encode()).hexdigest(): adapter for name, adapter in loaded.items()}
    recipe = parse(text, "bfloat16").pin(
        lambda reference: Parent(reference.adapter, 1, sha256(reference.adapter.name.encode()).hexdigest())
    )
    compose_into(out, recipe, inputs, device="cpu", durable=True)
    sync(out)


def copy(source: Path, out: Path) -> None:
    subprocess.run(["cp", "-r", str(source), str(out)], check=True)
    sync(out)


def move_bytes(folder: Path, out: Path, *, size: int) -> None:
    """Read and hash both inputs, each in a thread, and write a file of a size, in the ways that blending does it."""
    contents = in_pool(lambda name: hashed(folder / name / WEIGHTS_NAME), NAMES, workers_of_machine())
    with OutputFile(out / WEIGHTS_NAME, lambda _: None, hashed=False) as file:
        for content in list(contents):
            data = memoryview(content)[:size]
            size -= len(data)
            for start in range(0, len(data), PIECE):
                piece = file.buffer(min(len(data) - start, PIECE))
                piece[:] = data[start : start + PIECE]
                file.put(piece)
        file.sync()
    sync(out)


def hashed(path: Path) -> mmap.mmap:
    data = mmap.mmap(-1, path.stat().st_size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    digest, start = sha256(), 0
    data.madvise(mmap.MADV_HUGEPAGE)
    room = memoryview(data)
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(room[start : start + CHUNK]):
            digest.update(room[start : start + count])
            start += count
    return data


def sync(folder: Path) -> None:
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
