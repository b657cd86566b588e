"""Merging into a base against copying it, PEFT and mergekit: `python -m benchmarks.merge [--gigabytes N]`.

A bf16 Llama in three shards and a rank-16 adapter of all its linear layers. Contenders run as processes of their own,
interleaved in one run, and each ends with its bytes on the disk:

    cp         cp -r of the base, then fsync of every file
    floor      the same while as many threads as there are processors hash the base: what no merge can leave out
    merge      ours: reads the adapter, merges, hashes every shard
    command    `adapters merge` from its start to its end: also imports, registry, composing, the base's fingerprint
    peft       from_pretrained, merge_and_unload, save_pretrained, fsync
    mergekit   run_merge of base+adapter, fsync; in an environment of its own, which is made once in --cache

Imports are left out of all but `command`. Told are medians, the median of each round's ratio to cp in the same round,
processor time, and the peak of resident memory of the process (what it maps of files included).
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.memory import resident_mebibytes
from benchmarks.merge_peers import MERGEKIT, MERGEKIT_SCRIPT, mergekit_python, run_peft, sync
from benchmarks.results import Cell, save

COLUMNS = ("contender", "median s", "best s", "CPU s", "x cp", "x floor", "x merge", "peak MiB", "target", "met")
TARGETS = {"merge": ("x cp", 1.3), "command": ("peak MiB", 300)}

_PROGRAM = (sys.executable, "-c", "from cli.main import run; run()")


def run_cp(folder: Path) -> None:
    subprocess.run(["cp", "-r", str(folder / "base"), str(folder / "out")], check=True)
    sync(folder / "out")


def run_floor(folder: Path) -> None:
    files = list((folder / "base").glob("*.safetensors"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashing = [pool.submit(_hash, file) for file in files]
        run_cp(folder)
        for each in hashing:
            each.result()


def _hash(file: Path) -> None:
    with file.open("rb", buffering=0) as stream:
        hashlib.file_digest(stream, "sha256")


def run_merge(folder: Path) -> None:
    from composition.base_merge import merge_shards
    from composition.changes import Contribution, changes_of
    from composition.low_rank import LowRank
    from composition.merge_plan import Plan
    from composition.placement import place_modules, product
    from composition.shards import OpenFiles, headers_index, shards_of
    from composition.weights import open_weights, read_factors
    from registry.formats.base_files import read_base

    stored, weights = read_base(folder / "base"), open_weights(folder / "adapter")
    places = place_modules(weights.spec.modules, stored, headers_index(stored), name="base")
    contributions: list[Contribution] = []
    with OpenFiles.of(weights.files) as files:
        for module in weights.spec.modules:
            factors = read_factors(files, weights, module)
            delta = LowRank(factors.right, factors.left, factors.scaling)
            contributions += product(places[module.name][0], delta)
    plan = Plan(folder / "base", folder / "out", shards_of(stored, folder / "base"), {})
    merge_shards(plan, changes_of(contributions), workers=os.cpu_count() or 1, progress=lambda *_: None)


def run_floors(_folder: Path) -> None:
    """Print what can't be left out: processor seconds a GB for sha256 and for sums in float32, and MiB of imports."""
    import torch

    import cli.merge
    import composition.merge_job
    from composition.shards import CHUNK, block_rows

    data, width = bytearray(os.urandom(CHUNK)), 2048
    rows = torch.randn(CHUNK // 2 // width, width).bfloat16()
    left, right, total = (
        torch.randn(block_rows(width), 16),
        torch.randn(16, width),
        torch.empty(block_rows(width), width),
    )

    def add() -> None:
        for block in torch.split(rows, len(total)):
            block.copy_(total[: len(block)].copy_(block).addmm_(left[: len(block)], right))

    assert cli.merge and composition.merge_job
    imports = resident_mebibytes()
    found = [min(_seconds_a_gigabyte(work) for _ in range(5)) for work in (lambda: hashlib.sha256(data), add)]
    print(json.dumps([*found, imports]))


def _seconds_a_gigabyte(work: Callable[[], object]) -> float:
    from composition.shards import CHUNK

    start = time.thread_time()
    for _ in range(20):
        work()
    return (time.thread_time() - start) / (20 * CHUNK) * 1e9


_OURS: dict[str, tuple[Callable[[Path], None], Sequence[str]]] = {
    "cp": (run_cp, ()),
    "floor": (run_floor, ()),
    "merge": (run_merge, ("composition.base_merge", "composition.weights", "composition.placement")),
    "floors": (run_floors, ("composition.shards",)),
    "peft": (run_peft, ("peft", "transformers.models.llama.modeling_llama")),
}


def child(name: str, folder: Path) -> None:
    """Run one contender and print its seconds and processor seconds, without what it imports."""
    work, modules = _OURS[name]
    for module in modules:
        __import__(module)
    if name in ("merge", "floors"):
        import torch

        torch.set_num_threads(1)  # as `adapters merge` does
    start, cpu = time.perf_counter(), time.process_time()
    work(folder)
    print(json.dumps([time.perf_counter() - start, time.process_time() - cpu]))


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the model lies, and the Python that has mergekit."""

    folder: Path
    mergekit: Path | None

    def prepare(self, size: int) -> None:
        """Write base and adapter, and register both. In other processes: this one's memory would count as theirs."""
        module = [sys.executable, "-m", "benchmarks.merge_model", str(self.folder), str(size)]
        subprocess.run(module, check=True)
        self._adapters("base", "add", "bench/llama", str(self.folder / "base"))
        self._adapters("push", str(self.folder / "adapter"), "bench/adapter")

    def _adapters(self, *line: str) -> None:
        subprocess.run([*_PROGRAM, *line], check=True, env=self._home(), capture_output=True)

    def _home(self) -> dict[str, str]:
        return {**os.environ, "ADAPTERS_HOME": str(self.folder / "home")}

    def line(self, name: str) -> list[str]:
        if name == "command":
            paths = ["--base", str(self.folder / "base"), "--out", str(self.folder / "out")]
            return [*_PROGRAM, "merge", "bench/adapter", *paths]
        if name == "mergekit":
            return [str(self.mergekit), "-c", MERGEKIT_SCRIPT, str(self.folder)]
        return [sys.executable, "-m", "benchmarks.merge", "--child", name, "--folder", str(self.folder)]

    def floors(self) -> str:
        """What can't be left out, as a sentence."""
        done = subprocess.run(self.line("floors"), check=True, capture_output=True, text=True)
        sha, add, imports = json.loads(done.stdout.splitlines()[0])
        return (
            f"one core: sha256 takes {sha:.2f} s a GB, converting, adding rank 16 and rounding {add:.2f} s; "
            f"of the command's memory {imports:.0f} MiB are what it imports, torch above all"
        )

    def measure(self, name: str) -> tuple[float, float, float]:
        """Seconds, processor seconds and MiB resident of one run."""
        for left in ("out", "out.partial", "cache"):
            shutil.rmtree(self.folder / left, ignore_errors=True)
        os.sync()
        start = time.perf_counter()
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(self.line(name), stdout=output, stderr=errors, env=self._home())
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
            if process.returncode:
                errors.seek(0)
                raise SystemExit(f"{name} failed:\n{errors.read()[-2000:].decode(errors='replace')}")
            output.seek(0)
            if name != "command":
                wall, own = json.loads(output.read().splitlines()[-1])
                cpu = cpu if name in ("cp", "floor") else own
        return wall, cpu, usage.ru_maxrss / 1024


def rows(found: dict[str, list[tuple[float, float, float]]]) -> list[dict[str, Cell]]:
    """The table, of (seconds, processor seconds, MiB) of each contender in each round."""
    table = []
    for name, runs in found.items():
        seconds, cpu, memory = zip(*runs, strict=True)
        row: dict[str, Cell] = {"contender": name, "median s": median(seconds), "best s": min(seconds)}
        row |= {"CPU s": median(cpu), "peak MiB": None if name in ("cp", "floor") else round(max(memory))}
        for other in ("cp", "floor", "merge"):
            if other in found:
                row[f"x {other}"] = median(run[0] / one[0] for run, one in zip(runs, found[other], strict=True))
        row |= _verdict(name, row)
        table.append({column: row.get(column) for column in COLUMNS})
    return table


def _verdict(name: str, row: dict[str, Cell]) -> dict[str, Cell]:
    column, most = TARGETS.get(name, ("", 0.0))
    found = row.get(column)
    if not isinstance(found, int | float):
        return {}
    met = "yes" if found <= most else f"no, {found / most:.2f} x off"
    return {"target": f"{column} ≤ {most}", "met": met}


def main() -> None:
    names = ("cp", "floor", "merge", "command", "peft", "mergekit")
    parser = argparse.ArgumentParser(description="merging against cp, PEFT and mergekit")
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=names, default=list(names), help="prints, and keeps nothing")
    parser.add_argument("--cache", type=Path, default=Path("~/.cache/adapters-benchmarks").expanduser())
    parser.add_argument("--child", choices=_OURS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder)
        return
    mergekit = mergekit_python(options.cache) if "mergekit" in options.only else None
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.only}
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name) / "bench", mergekit)
        bench.prepare(int(options.gigabytes * 1e9))
        size = sum(file.stat().st_size for file in (bench.folder / "base").iterdir())
        for _ in range(options.rounds):
            for contender in options.only:
                found[contender].append(bench.measure(contender))
        floors = bench.floors()
    title = f"Merging a rank-16 adapter into {size / 1e9:.2f} GB of bf16 in 3 shards, {options.rounds} rounds"
    report(rows(found), title=title, floors=floors, keep=set(names) <= set(options.only))


def report(table: list[dict[str, Cell]], *, title: str, floors: str, keep: bool) -> None:
    """Print the table, and keep that of a whole run."""
    print(title)
    for row in table:
        cells = (f"{cell:.3g}" if isinstance(cell, float) else str(cell or "") for cell in row.values())
        print("  " + " ".join(f"{cell:>10}" for cell in cells))
    print(f"  {floors}")
    if keep:
        notes = [
            "medians of interleaved rounds; ratios are medians of each round's ratio",
            "cp: with fsync; merge: without imports; command: all of `adapters merge`, with the base's fingerprint",
            f"peft: merge_and_unload and save_pretrained; mergekit: {MERGEKIT}, in its own environment",
            floors,
            "floor: cp and sha256 of the same bytes at once; the sums in float32 come on top of it",
            "resident memory counts the pages of shared libraries, and the adapter's factors",
        ]
        save("merge", table, COLUMNS, title=title, notes=notes, packages=("torch", "peft", "transformers"))


if __name__ == "__main__":
    main()
