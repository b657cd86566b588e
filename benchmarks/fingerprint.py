"""Registering a base against the disk and against sha256: `python -m benchmarks.fingerprint [--gigabytes N]`.

A model of the shapes of a real one (an embedding, layers of four matrices, norms) is written to a temporary folder in
three shards and read by each contender in turn, several rounds, so that all see the same machine:

    cat          reading the bytes and throwing them away: the disk (or the page cache, once warm)
    sha256sum    one process over all files: one core's sha256
    xargs        sha256sum of pieces of the same bytes, as many at once as there are cores: what the cores can do
    index_base   ours

The ratio to the best parallel sha256 is the figure; the target is 1.1.
"""

import argparse
import json
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
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


def contenders(folder: Path, cores: int) -> dict[str, Callable[[], object]]:
    files = " ".join(f"'{path}'" for path in sorted(folder.glob("*.safetensors")))
    # Pieces of equal size, so that no core waits for a large file.
    pieces = (
        f'for f in {files}; do n=$((($(stat -c %s "$f") + {_PIECE} - 1) / {_PIECE})); '
        f'for i in $(seq 0 8 $((n - 1))); do echo "$f" $i; done; done | xargs -P {cores} -L 1 bash -c '
        f"'dd if=\"$0\" bs={_PIECE} skip=$1 count=8 status=none | sha256sum'"
    )
    return {
        "cat": shell(f"cat {files}"),
        "sha256sum": shell(f"sha256sum {files}"),
        "xargs": shell(pieces),
        "index_base": lambda: index_base(folder),
    }


def measure(folder: Path, rounds: int, cores: int) -> dict[str, list[float]]:
    runs = contenders(folder, cores)
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
        seconds = measure(Path(name), options.rounds, cores)
    print(f"fingerprint of {options.gigabytes:g} GB on {cores} cores, {options.rounds} interleaved rounds")
    for contender, runs in seconds.items():
        speed = total / min(runs) / 1e9
        print(f"  {contender:10}  median {median(runs):6.2f} s  best {min(runs):6.2f} s  {speed:5.2f} GB/s")
    ratios = [ours / theirs for ours, theirs in zip(seconds["index_base"], seconds["xargs"], strict=True)]
    print(f"  index_base / parallel sha256sum: {median(ratios):.2f} (target <= {TARGET})")
    best = min(seconds["index_base"]) / min(seconds["sha256sum"])
    print(f"  index_base / one sha256sum:      {best:.2f} (1 / cores would be {1 / cores:.2f})")


if __name__ == "__main__":
    main()
