"""Quality of every composition method on real adapters, against PEFT at equal density and rank.

    python -m benchmarks.quality [--workers N] [--report]

Options are chosen on 200 examples a task of `dev` for both sides together, and reported on the 400 of `test`;
what is random has five seeds. Differences are paired, example by example. It writes benchmarks/results/quality.json
and .md, the table in docs/methods.md, and the plots in docs/plots.
"""

import argparse
import json
import os
import sys
from importlib.metadata import version
from typing import Any

from benchmarks.quality.measure import measure
from benchmarks.quality.plots import draw
from benchmarks.quality.report import RESULTS, worse, write_report
from benchmarks.quality.scoring import PRECISIONS, Pool
from benchmarks.results import machine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    parser.add_argument("--report", action="store_true", help="only write tables and plots of what was measured before")
    arguments = parser.parse_args()
    if not arguments.report:
        RESULTS.write_text(json.dumps(_measured(arguments.workers), indent=1) + "\n")
    document = json.loads(RESULTS.read_text())
    write_report(document)
    draw(document)
    print(RESULTS.with_suffix(".md").read_text())
    return 1 if worse(document) else 0


def _measured(workers: int) -> dict[str, Any]:
    pool = Pool(workers)
    try:
        found = measure(pool)
    finally:
        pool.close()
    versions = {name: version(name) for name in ("torch", "peft", "transformers")}
    return {"machine": machine(), "versions": versions, "precision": PRECISIONS, **found}


if __name__ == "__main__":
    sys.exit(main())
