"""Merging into a base against copying it and against PEFT: `python -m benchmarks.merge [--gigabytes N]`.

A bf16 model of the shapes of a Llama layer is written in three shards, with a rank-16 adapter of its attention and MLP.
Contenders run as processes of their own, interleaved, and each ends with its bytes on the disk:

    cp       cp -r of the base, then fsync of every file: the floor
    merge    ours, with the sha256 of every shard; the base was fingerprinted before (`index`, told separately)
    peft     the same sums by PEFT's layers: load shard by shard, merge() each layer in memory, save_file, fsync.
             transformers' loading and its configuration are left out, which flatters it.

Told are medians, the ratio of each round's times to cp's in the same round, and the peak of resident memory.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from safetensors import safe_open
from safetensors.torch import save_file

SHARDS, RANK, WIDTH, INNER = 3, 16, 2048, 5632
PARTS = {
    "q_proj": (WIDTH, WIDTH),
    "v_proj": (WIDTH, WIDTH),
    "o_proj": (WIDTH, WIDTH),
    "up_proj": (INNER, WIDTH),
    "down_proj": (WIDTH, INNER),
}


def write_model(folder: Path, total: int) -> None:
    """A base of about `total` bytes and an adapter of every matrix, in `base` and `adapter`."""
    (folder / "base").mkdir()
    (folder / "adapter").mkdir()
    layer = 2 * sum(out * inside for out, inside in PARTS.values())
    layers = max(SHARDS, round(total / layer))
    generator, weight_map, adapter = torch.Generator().manual_seed(1), {}, {}
    for shard in range(SHARDS):
        name, tensors = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors", {}
        for number in range(shard, layers, SHARDS):
            for part, (out, inside) in PARTS.items():
                module = f"model.layers.{number}.{part}"
                tensors[f"{module}.weight"] = (0.02 * torch.randn(out, inside, generator=generator)).bfloat16()
                prefix = f"base_model.model.{module}.lora_"
                adapter[f"{prefix}A.weight"] = 0.01 * torch.randn(RANK, inside, generator=generator)
                adapter[f"{prefix}B.weight"] = 0.01 * torch.randn(out, RANK, generator=generator)
        save_file(tensors, folder / "base" / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "base" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "base" / "config.json").write_text('{"model_type": "llama"}')
    save_file(adapter, folder / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 32, "target_modules": list(PARTS)}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(config))


def run_cp(folder: Path) -> None:
    shutil.rmtree(folder / "out", ignore_errors=True)
    subprocess.run(["cp", "-r", str(folder / "base"), str(folder / "out")], check=True)
    for file in (folder / "out").iterdir():
        sync(file)


def run_merge(folder: Path) -> None:
    from composition.base_merge import merge_shards
    from composition.changes import changes_of
    from composition.low_rank import LowRank
    from composition.merge_plan import Plan
    from composition.placement import place_modules, product
    from composition.shards import OpenFiles, headers_index, shards_of
    from composition.weights import open_weights, read_factors
    from registry.formats.base_files import read_base

    torch.set_num_threads(1)
    shutil.rmtree(folder / "out", ignore_errors=True)
    stored, weights = read_base(folder / "base"), open_weights(folder / "adapter")
    places = place_modules(weights.spec.modules, stored, headers_index(stored), name="base")
    deltas = {}
    with OpenFiles.of([weights.file]) as files:
        for module in weights.spec.modules:
            factors = read_factors(files, weights, module)
            deltas[module.name] = LowRank(factors.right, factors.left, factors.scaling)
    plan = Plan(folder / "base", folder / "out", shards_of(stored, folder / "base"), {})
    changes = changes_of(product(places[name][0], delta) for name, delta in deltas.items())
    merge_shards(plan, changes, workers=os.cpu_count() or 1, progress=lambda *_: None)


def run_index(folder: Path) -> None:
    from registry.formats.base_model import index_base

    index_base(folder / "base")


def run_peft(folder: Path) -> None:
    from peft.tuners.lora import LoraConfig
    from peft.tuners.lora.layer import Linear

    shutil.rmtree(folder / "out", ignore_errors=True)
    (folder / "out").mkdir()
    models = {}
    with safe_open(folder / "adapter" / "adapter_model.safetensors", "pt") as adapter:
        for file in sorted((folder / "base").glob("*.safetensors")):
            with safe_open(file, "pt") as shard:
                models[file.name] = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118
        for tensors in models.values():
            for name in list(tensors):
                out, inside = tensors[name].shape
                base = torch.nn.Linear(inside, out, bias=False, device="meta")
                base.weight = torch.nn.Parameter(tensors[name], requires_grad=False)
                layer = Linear(base, "default", config=LoraConfig(r=RANK, lora_alpha=32), r=RANK, lora_alpha=32)
                prefix = f"base_model.model.{name.removesuffix('.weight')}.lora_"
                layer.lora_A["default"].weight.data = adapter.get_tensor(f"{prefix}A.weight")
                layer.lora_B["default"].weight.data = adapter.get_tensor(f"{prefix}B.weight")
                layer.merge()
                tensors[name] = base.weight.data
    for name, tensors in models.items():
        save_file(tensors, folder / "out" / name, metadata={"format": "pt"})
        sync(folder / "out" / name)


def sync(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())


CONTENDERS = {"cp": run_cp, "merge": run_merge, "index": run_index, "peft": run_peft}


def measure(folder: Path, rounds: int, names: list[str]) -> dict[str, list[tuple[float, float, float]]]:
    """(seconds of the work itself, CPU seconds, MiB resident) of every contender in every round."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            os.sync()
            line = [sys.executable, "-m", "benchmarks.merge", "--child", name, "--folder", str(folder)]
            done = subprocess.run(line, check=True, capture_output=True, text=True)
            found[name].append(tuple(json.loads(done.stdout.splitlines()[-1])))
    return found


def peak_memory() -> float:
    """MiB that this program held at most; getrusage would count the parent's before it became this program."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def child(name: str, folder: Path) -> None:
    import composition.base_merge  # noqa: F401  # importing torch is nobody's merge

    start, cpu = time.perf_counter(), time.process_time()
    CONTENDERS[name](folder)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps([seconds, cpu, peak_memory()]))


def main() -> None:
    parser = argparse.ArgumentParser(description="merging against cp and PEFT")
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--child", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    with tempfile.TemporaryDirectory() as name:
        write_model(Path(name), int(options.gigabytes * 1e9))
        size = sum(file.stat().st_size for file in (Path(name) / "base").iterdir())
        found = measure(Path(name), options.rounds, options.only)
    print(f"{size / 1e9:.2f} GB bf16 in {SHARDS} shards, rank {RANK}, {os.cpu_count()} cores, {options.rounds} rounds")
    for contender, runs in found.items():
        seconds, cpu, memory = zip(*runs, strict=True)
        line = f"  {contender:6} median {median(seconds):6.2f} s  best {min(seconds):6.2f} s  CPU {median(cpu):6.2f} s"
        if "cp" in found:
            ratios = [run[0] / floor[0] for run, floor in zip(runs, found["cp"], strict=True)]
            line += f"  x cp {median(ratios):5.2f}"
        print(f"{line}  {max(memory):6.0f} MiB")


if __name__ == "__main__":
    main()
