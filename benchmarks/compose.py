"""Composing, against PEFT, against formulas on full matrices, and against `cp`: `make bench-compose`.

    python -m benchmarks.compose [--rounds N] [--slow-rounds N] [--file-rounds N] [--only module files] [--no-save]

`compose_module` says what is raced on one 4096 x 4096 module, `compose_files` on a whole Llama-2-7B's adapters.
Rounds are interleaved, figures are medians; peers that take many seconds run `--slow-rounds` times. The table is
printed and kept in results/compose.md with the machine's description and, for each target, whether it was met, what the
figure would be if there were nothing but the floor (see `compose_floors`), and why it isn't better where it was missed.
"""

import argparse
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from benchmarks import compose_files
from benchmarks.compose_floors import seconds
from benchmarks.compose_module import (
    RACES,
    SLOW,
    Case,
    contestant,
    distance_to_optimum,
    excess_residual,
    measure,
)
from benchmarks.memory import peak_mebibytes
from benchmarks.results import Cell, save
from composition.schedule import workers_of_machine

COLUMNS = ("what", "ours", "peer", "figure", "target", "met", "floor", "why")


@dataclass(frozen=True)
class Figure:
    """One line of the table. `least`: the figure should be at least the target, else at most.

    `floor`: the figure of nothing but what can't be left out; `why`: what the rest is, told where the target is missed.
    """

    what: str
    ours: str
    peer: str
    figure: float
    target: float | None = None
    least: bool = False
    floor: float | None = None
    why: str = ""

    def row(self) -> dict[str, Cell]:
        row: dict[str, Cell] = {
            "what": self.what,
            "ours": self.ours,
            "peer": self.peer,
            "figure": _short(self.figure),
            "floor": "" if self.floor is None else _short(self.floor),
        }
        if self.target is None:
            return row
        met = self.figure >= self.target if self.least else self.figure <= self.target
        off = self.target / self.figure if self.least else self.figure / self.target
        row["target"] = f"{'≥' if self.least else '≤'} {_short(self.target)}"
        row["met"] = "yes" if met else f"no, {off:.1f} × off"
        row["why"] = "" if met else self.why
        return row


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--slow-rounds", type=int, default=5)
    parser.add_argument("--file-rounds", type=int, default=9)
    parser.add_argument("--no-save", action="store_true", help="print the table only")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--layers", type=int, default=compose_files.LAYERS)
    parser.add_argument("--only", nargs="+", choices=("module", "files"), default=["module", "files"])
    parser.add_argument("--memory", choices=RACES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    case = Case(options.size, options.rank)
    if options.memory:
        torch.set_num_threads(1)
        print(peak_mebibytes(contestant(options.memory, case)))
        return
    figures: list[Figure] = []
    if "files" in options.only:
        figures += of_files(options.file_rounds, options.layers)
    if "module" in options.only:
        torch.set_num_threads(1)
        figures += of_module(case, options.rounds, options.slow_rounds)
    for figure in figures:
        print(
            "  {what:52} {ours:>14} {peer:>26} {figure:>9} {target:>9} {met:14} {floor:>8} {why}".format(
                **_EMPTY | figure.row()
            )
        )
    if options.no_save:
        return
    title = f"Composing: one {case.size} x {case.size} module, and a Llama-2-7B's adapters"
    slow = f"{options.slow_rounds} for {', '.join(SLOW)}, {options.file_rounds} for whole adapters"
    notes = (
        f"medians of {options.rounds} rounds, {slow}; interleaved",
        "floor: the figure if nothing took time but products and a decomposition in plain calls of torch, measured"
        " here, and for whole adapters reading, hashing and writing, measured in the same rounds",
    )
    print(save("compose", [figure.row() for figure in figures], COLUMNS, title=title, notes=notes, packages=PACKAGES))


_REST = "the report, checks, rounding, and calls of torch for matrices so small that calling costs more than computing"
_EMPTY = dict.fromkeys(COLUMNS, "")
PACKAGES = ("torch", "peft", "safetensors")


def of_module(case: Case, rounds: int, slow_rounds: int) -> list[Figure]:
    names = [name for race in RACES.items() for name in race]
    times, results = measure(case, {name: slow_rounds if name in SLOW else rounds for name in names})
    clock = {name: median(spent for spent, _ in runs) for name, runs in times.items()}
    cpu = {name: median(spent for _, spent in runs) for name, runs in times.items()}

    shape = [(case.size, case.size)]

    def race(name: str, spent: dict[str, float], what: str, target: float | None) -> Figure:
        peer = RACES[name]
        texts = (f"{1000 * spent[name]:.2f} ms", f"{peer} {1000 * spent[peer]:,.0f} ms")
        floor = seconds(name, shape, case.rank)
        why = f"products and decomposition alone take {1000 * floor:.2f} ms; the rest is {_REST}"
        ratio = spent[peer] / spent[name]
        return Figure(f"{name}: {what}", *texts, ratio, target, least=True, floor=spent[peer] / floor, why=why)

    return [
        race("truncate", clock, "times as fast", 10_000),
        Figure(
            "truncate: distance to the float64 optimum", "", "", distance_to_optimum(case, results["truncate"]), 2e-7
        ),
        race("cat", clock, "times as fast", None),
        race("ties", cpu, "times less CPU", 50),
        Figure("ties: excess residual", "", "", excess_residual(case, results["ties"]), 1e-6),
        Figure("ties: MiB above the inputs", "", "", memory_in_a_fresh_process("ties", case), 100),
        race("knots", cpu, "times less CPU", 1_000),
    ]


def memory_in_a_fresh_process(name: str, case: Case) -> float:
    command = [sys.executable, "-m", "benchmarks.compose", "--memory", name]
    sizes = ["--size", str(case.size), "--rank", str(case.rank)]
    return float(subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout)


def of_files(rounds: int, layers: int) -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compose_files.write_adapters(folder, layers)
        found = compose_files.measure(folder, rounds)
    figures = []
    for kind, target in (("truncate", 4.0), ("cat", 1.3)):
        ours, copies, moves = (found[f"{way}{kind}"] for way in ("", "cp ", "bytes "))
        texts = (f"{_seconds(ours):.2f} s", f"cp {_seconds(copies):.2f} s")
        products = _products(kind) * layers / workers_of_machine()
        floor = _ratio(moves, copies) + products / _seconds(copies)
        why = (
            f"reading, hashing and writing take {_seconds(moves):.2f} s, products and decompositions {products:.2f} s "
            f"on all cores; the rest is {_REST}, and what the two cores wait for each other"
        )
        what = f"7B {kind}, file to file: times cp of its output"
        figures.append(Figure(what, *texts, _ratio(ours, copies), target, floor=floor, why=why))
        figures.append(Figure(f"7B {kind}: CPU seconds", "", "", median(run[1] for run in ours)))
        figures.append(Figure(f"7B {kind}: MiB at most", "", "", max(run[2] for run in ours)))
    return figures


def _products(kind: str) -> float:
    """One thread's seconds for a layer's products, on as many layers as don't fit into the cache."""
    return seconds(kind, list(compose_files.PARTS.values()), compose_files.RANK, dtype=torch.bfloat16, copies=4)


def _seconds(runs: list[list[float]]) -> float:
    return median(run[0] for run in runs)


def _ratio(runs: list[list[float]], others: list[list[float]]) -> float:
    """The median of the rounds' ratios."""
    return median(run[0] / other[0] for run, other in zip(runs, others, strict=True))


if __name__ == "__main__":
    main()
