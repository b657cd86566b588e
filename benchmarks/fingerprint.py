"""Registering a base against the disk and against sha256: `python -m benchmarks.fingerprint [--gigabytes N]`.

A model of the shapes of a real one (an embedding, layers of four matrices, norms) is written to a temporary folder in
three shards and read by each contender in turn, several rounds, so that all see the same machine:

    cat          reading the bytes and throwing them away: the disk (or the page cache, once warm)
    sha256sum    one process over all files (coreutils may lack the processor's SHA instructions)
    memory       sha256 of as many bytes that are already in memory, on all cores: the limit of hashing
    parallel     the same sha256 of equal pieces of the files, read by as many threads as there are cores
    index_base   ours: every tensor its own sha256, however large or small

The figure is the ratio to `parallel`; the target is 1.1.
"""

import argparse
import hashlib
import json
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from registry.formats.base_model import index_base

TARGET = 1.1
_PIECE = 16 << 20


def layout(total: int) -> Iterator[tuple[str, int]]:
    """Names and sizes of tensors: an eighth in one embedding, the rest in layers, down to norms of some KB."""
    yield "model.embed_tokens.weight", total // 8
    rest, layer = total - total // 8, 0
    while rest > 0:
        for part, size in (("q_proj", 8 << 20), ("up_proj", 22 << 20), ("down_proj", 22 << 20), ("norm", 8 << 10)):
            yield f"model.layers.{layer}.{part}.weight", min(size, max(rest, 1))
            rest -= size
        layer += 1


def write_model(folder: Path, total: int) -> None:
    tensors = list(layout(total))
    block = os.urandom(4 << 20)
    weight_map: dict[str, str] = {}
    for number in range(3):
        name = f"model-{number}.safetensors"
        part = tensors[number::3]
        weight_map |= {tensor: name for tensor, _ in part}
        header, position = {}, 0
        for tensor, size in part:
            header[tensor] = {"dtype": "U8", "shape": [size], "data_offsets": [position, position + size]}
            position += size
        text = json.dumps(header).encode()
        with (folder / name).open("wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            for offset in range(0, position, len(block)):
                stream.write(block[: min(len(block), position - offset)])
            stream.flush()
            os.fsync(stream.fileno())
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def shell(command: str) -> Callable[[], None]:
    def run() -> None:
        subprocess.run(["bash", "-c", command], check=True, stdout=subprocess.DEVNULL)

    return run


def hash_memory(block: bytes, times: int) -> None:
    digest = hashlib.sha256()
    for _ in range(times):
        digest.update(block)


def hash_piece(descriptor: int, start: int, length: int) -> None:
    digest, buffer = hashlib.sha256(), memoryview(bytearray(1 << 20))
    for offset in range(start, start + length, len(buffer)):
        digest.update(buffer[: os.preadv(descriptor, [buffer[: start + length - offset]], offset)])


def in_memory(total: int, cores: int) -> None:
    block = bytes(1 << 20)
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(hash_memory, [block] * cores, [total // cores // len(block)] * cores))


def in_pieces(files: list[Path], cores: int) -> None:
    with ThreadPoolExecutor(cores) as pool:
        streams = [path.open("rb") for path in files]
        pieces = [
            (stream.fileno(), start, min(_PIECE, os.fstat(stream.fileno()).st_size - start))
            for stream in streams
            for start in range(0, os.fstat(stream.fileno()).st_size, _PIECE)
        ]
        list(pool.map(lambda piece: hash_piece(*piece), pieces))
        for stream in streams:
            stream.close()


def contenders(folder: Path, total: int, cores: int) -> dict[str, Callable[[], object]]:
    paths = sorted(folder.glob("*.safetensors"))
    files = " ".join(f"'{path}'" for path in paths)
    return {
        "cat": shell(f"cat {files}"),
        "sha256sum": shell(f"sha256sum {files}"),
        "memory": lambda: in_memory(total, cores),
        "parallel": lambda: in_pieces(paths, cores),
        "index_base": lambda: index_base(folder),
    }


def measure(folder: Path, total: int, rounds: int, *, cores: int) -> dict[str, list[float]]:
    runs = contenders(folder, total, cores)
    runs["cat"]()  # into the page cache, for all alike
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description="index_base against cat and sha256sum")
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    total, cores = int(options.gigabytes * (1 << 30)), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), total)
        seconds = measure(Path(name), total, options.rounds, cores=cores)
    print(f"fingerprint of {options.gigabytes:g} GB on {cores} cores, {options.rounds} interleaved rounds")
    for contender, runs in seconds.items():
        speed = total / min(runs) / 1e9
        print(f"  {contender:10}  median {median(runs):6.2f} s  best {min(runs):6.2f} s  {speed:5.2f} GB/s")
    for peer in ("parallel", "memory"):
        ratios = [ours / theirs for ours, theirs in zip(seconds["index_base"], seconds[peer], strict=True)]
        best = min(seconds["index_base"]) / min(seconds[peer])
        print(f"  index_base / {peer}: median {median(ratios):.2f}, best against best {best:.2f} (target <= {TARGET})")


if __name__ == "__main__":
    main()
