"""Composing two rank-16 adapters of one 4096 x 4096 module, against PEFT's `add_weighted_adapter` on the same factors.

    python -m benchmarks.compose [--rounds N] [--svd-rounds N] [--size N] [--rank N]

    truncate   ours: the sum truncated to rank 16     PEFT: combination_type="svd"  (forms the delta, full SVD: ~20 s)
    cat        ours: the exact sum                    PEFT: combination_type="cat"

Interleaved rounds in one process, one thread, medians. Both sides start from factors in memory and end with factors in
memory; ours computes its report (norms, error) as well. Peak memory is what a fresh process that does only this needs
beyond torch and the factors. Errors are relative to the dense float64 sum.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from composition.adapter import LoadedAdapter, LoadedModule
from composition.engine import compose
from composition.low_rank import LowRank
from registry.domain.expression import parse
from registry.domain.records import Parent
from registry.domain.spec import AdapterSummary

CONTESTANTS = ("truncate", "peft svd", "cat", "peft cat")
NAMES = ("left", "right")
SUMMARY = AdapterSummary("peft", "LORA", 16, 32.0, {}, ("linear",), (), "F32", 0)


@dataclass(frozen=True)
class Case:
    """A square module, and the rank of both adapters and of the truncated result."""

    size: int
    rank: int

    def factors(self, name: str) -> LowRank:
        generator = torch.Generator().manual_seed(NAMES.index(name))
        a, b = (torch.randn(self.rank, self.size, generator=generator) / self.size**0.5 for _ in "AB")
        return LowRank(a, b.T.contiguous(), 2.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--svd-rounds", type=int, default=1)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--memory", choices=CONTESTANTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    case = Case(arguments.size, arguments.rank)
    if arguments.memory:
        print(peak_mebibytes(contestant(arguments.memory, case)))
        return
    rounds = {name: arguments.svd_rounds if name == "peft svd" else arguments.rounds for name in CONTESTANTS}
    report(case, *measure(case, rounds))


# -- the contestants --------------------------------------------------------------------------------------------------


def contestant(name: str, case: Case) -> Callable[[], LowRank]:
    """What is timed: everything before it (factors, models, parsing) is done here."""
    if name.startswith("peft"):
        return theirs(case, name.removeprefix("peft "))
    return ours(case, f"truncate(t/left + t/right, rank={case.rank})" if name == "truncate" else "t/left + t/right")


def ours(case: Case, text: str) -> Callable[[], LowRank]:
    inputs = {
        sha256(name.encode()).hexdigest(): LoadedAdapter(
            name, SUMMARY, (LoadedModule("linear", None, case.factors(name)),)
        )
        for name in NAMES
    }
    recipe = parse(text).pin(
        lambda reference: Parent(reference.adapter, 1, sha256(reference.adapter.name.encode()).hexdigest())
    )
    return lambda: compose(recipe, inputs, device="cpu").modules[0].delta


def theirs(case: Case, kind: str) -> Callable[[], LowRank]:
    model = torch.nn.Sequential()
    model.add_module("linear", torch.nn.Linear(case.size, case.size, bias=False, device="meta").to_empty(device="cpu"))
    config = LoraConfig(r=case.rank, lora_alpha=2 * case.rank, target_modules=["linear"])
    peft: Any = get_peft_model(model, config, adapter_name="left")
    peft.add_adapter("right", config)
    layer = peft.base_model.model.linear
    for name in NAMES:
        layer.lora_A[name].weight.data = case.factors(name).A
        layer.lora_B[name].weight.data = case.factors(name).B

    def combine() -> LowRank:
        if "both" in peft.peft_config:
            peft.delete_adapter("both")
        options = {"svd_rank": case.rank} if kind == "svd" else {}
        peft.add_weighted_adapter(list(NAMES), [1.0, 1.0], "both", combination_type=kind, **options)
        return LowRank(layer.lora_A["both"].weight.data, layer.lora_B["both"].weight.data, layer.scaling["both"])

    return combine


# -- measuring --------------------------------------------------------------------------------------------------------


def measure(case: Case, rounds: dict[str, int]) -> tuple[dict[str, list[float]], dict[str, LowRank]]:
    """Seconds per round, and the last result, of each contestant."""
    work = {name: contestant(name, case) for name in CONTESTANTS}
    work["truncate"]()  # LAPACK's first call
    times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    results: dict[str, LowRank] = {}
    for number in range(max(rounds.values())):
        for name in CONTESTANTS:
            if number < rounds[name]:
                started = time.perf_counter()
                results[name] = work[name]()
                times[name].append(time.perf_counter() - started)
    return times, results


def peak_mebibytes(work: Callable[[], LowRank]) -> float:
    """By how much the process grows at most, while it works."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew; ru_maxrss would be the parent's
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def memory_in_a_fresh_process(name: str, case: Case) -> float:
    command = [sys.executable, "-m", "benchmarks.compose", "--memory", name]
    sizes = ["--size", str(case.size), "--rank", str(case.rank)]
    return float(subprocess.run([*command, *sizes], check=True, capture_output=True, text=True).stdout)


def errors(case: Case, results: dict[str, LowRank]) -> dict[str, float]:
    """Distance to the dense sum, relative to its norm."""
    exact = sum((case.factors(name).dense() for name in NAMES), torch.zeros(()))
    return {name: float((result.dense() - exact).norm() / exact.norm()) for name, result in results.items()}


def report(case: Case, times: dict[str, list[float]], results: dict[str, LowRank]) -> None:
    medians = {name: statistics.median(values) for name, values in times.items()}
    memory = {name: memory_in_a_fresh_process(name, case) for name in CONTESTANTS}
    distances = errors(case, results)
    print(f"one {case.size} x {case.size} module, two adapters of rank {case.rank}, one thread")
    for name in CONTESTANTS:
        print(
            f"  {name:10s} {1000 * medians[name]:10.2f} ms   {memory[name]:7.1f} MiB   rank {results[name].rank:3d}"
            f"   relative error {distances[name]:.7e}   ({len(times[name])} rounds)"
        )
    ratios = {
        "peft svd / truncate": medians["peft svd"] / medians["truncate"],
        "peft cat / cat": medians["peft cat"] / medians["cat"],
    }
    for label, ratio in ratios.items():
        print(f"  {label:20s} {ratio:10.2f} x")
    print(json.dumps({"benchmark": "compose", "seconds": medians, "ratios": ratios, "mebibytes": memory}))


if __name__ == "__main__":
    main()
