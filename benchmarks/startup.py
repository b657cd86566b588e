"""Starting the program, against importing the libraries that it can't do without: `python -m benchmarks.startup`.

Every contestant is a process of its own, run in turn, several rounds, so that all see the same machine:

    adapters --help              against   python -c "import click, rich"       target 2.0
    adapters resolve (embedded)  against   python -c "import sqlalchemy.orm"    target 1.6

The figure is the median over the rounds of ours / theirs, in time on the clock; in processor time it is steadier on a
busy machine.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from registry.bootstrap import open_registry
from registry.domain.reference import AdapterName
from registry.service.publishing import Submission
from tests.factories import write_adapter

PROGRAM = str(Path(sys.executable).with_name("adapters"))
NAME = "bench/adapter"


@dataclass(frozen=True, slots=True)
class Race:
    """Two command lines, and how much longer ours may take."""

    label: str
    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    target: float


RACES = (
    Race("--help", (PROGRAM, "--help"), (sys.executable, "-c", "import click, rich"), 2.0),
    Race("resolve", (PROGRAM, "resolve", NAME), (sys.executable, "-c", "import sqlalchemy.orm"), 1.6),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="adapters-bench-") as folder:
        environment = os.environ | {"ADAPTERS_HOME": folder}
        publish(environment, Path(folder) / "source")
        seconds = measure(environment, rounds)
    print(f"start-up, {rounds} interleaved rounds, medians; ratios are ours / theirs")
    for race in RACES:
        report(race, seconds[race.ours], seconds[race.theirs])


def publish(environment: dict[str, str], source: Path) -> None:
    """An embedded registry with one adapter in it."""
    registry = open_registry(environment)
    registry.push_folder(write_adapter(source), Submission(AdapterName.parse(NAME), ()))
    registry.close()


def measure(environment: dict[str, str], rounds: int) -> dict[tuple[str, ...], list[tuple[float, float]]]:
    """(clock, processor) seconds of every command line in every round; the first, cold round is not counted."""
    lines = [line for race in RACES for line in (race.ours, race.theirs)]
    seconds: dict[tuple[str, ...], list[tuple[float, float]]] = {line: [] for line in lines}
    for number in range(rounds + 1):
        for line in lines:
            spent = timed(line, environment)
            if number:
                seconds[line].append(spent)
    return seconds


def timed(line: tuple[str, ...], environment: dict[str, str]) -> tuple[float, float]:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def report(race: Race, ours: list[tuple[float, float]], theirs: list[tuple[float, float]]) -> None:
    clock, processor = ([our[i] / their[i] for our, their in zip(ours, theirs, strict=True)] for i in (0, 1))
    own, other = (median(spent[0] for spent in runs) * 1000 for runs in (ours, theirs))
    print(
        f"  {race.label:8} {own:6.0f} ms against {other:6.0f} ms: {median(clock):.2f} "
        f"(processor time {median(processor):.2f}, target <= {race.target})"
    )


if __name__ == "__main__":
    main()
