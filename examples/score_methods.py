"""Score what a method makes of two real adapters: does a blend do both tasks?

    python examples/score_methods.py [--split dev|test] [--seeds 1] [EXPRESSION ...]

In an expression, s is minilm-sentiment-r8 and w is minilm-wordnet-r8: "ties(s, w, density=0.5)". Without any, it
prints the table of docs/methods.md. `seed=N` in an expression is replaced by each of the seeds, and the mean is shown.
Tune on dev, report on test; the standard error of an accuracy is 1.3-2.5 points.
"""

import argparse
import re
import statistics
import tempfile
from hashlib import sha256
from pathlib import Path

import torch

from composition.adapter import LoadedAdapter
from composition.engine import compose
from composition.files import WEIGHTS_NAME, load_adapter, save_composition
from examples.score import Scorer
from registry.domain.expression import parse
from registry.domain.records import FileEntry, Parent
from registry.formats.peft import read_folder

ADAPTERS = Path(__file__).parent / "adapters"
NAMES = {"s": "minilm-sentiment-r8", "w": "minilm-wordnet-r8"}
TASKS = ["sentiment", "wordnet"]

TABLE = (
    "s",
    "w",
    "s + w",
    "truncate(s + w, rank=8)",
    "slerp(s, w)",
    "ties(s, w)",
    "magnitude(s, w)",
    "dare_linear(s, w, seed=N)",
    "dare_ties(s, w, seed=N)",
    "della(s, w, seed=N)",
    "breadcrumbs(s, w)",
    "sce(s, w)",
    "knots(s, w)",
    "core_space(s, w)",
    "tsv(s, w)",
    "iso_c(s, w)",
)


def load(name: str) -> LoadedAdapter:
    """An adapter of examples/adapters, by its folder's name."""
    folder = ADAPTERS / name
    data = (folder / WEIGHTS_NAME).read_bytes()
    entry = FileEntry(WEIGHTS_NAME, sha256(data).hexdigest(), len(data))
    with (folder / WEIGHTS_NAME).open("rb") as stream:
        return load_adapter(stream, read_folder(folder), subject=name, file=entry)


def score(scorer: Scorer, text: str, inputs: dict[str, LoadedAdapter]) -> tuple[list[float], float | None]:
    """The accuracy on each task, and the share of the merge's energy that its rank holds."""
    named = re.sub(r"\b([sw])\b(?!=)", r"t/\1", text)
    recipe = parse(named).pin(lambda reference: Parent(reference.adapter, 1, digest(reference.adapter.name)))
    composition = compose(recipe, inputs, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        save_composition(composition, Path(folder))
        scores = scorer.score(Path(folder))
        return [scores[task] for task in TASKS], composition.report.merge_kept


def digest(name: str) -> str:
    """What pins an input here: these adapters are in no registry."""
    return sha256(name.encode()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("expressions", nargs="*")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    parser.add_argument("--seeds", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scorer = Scorer(TASKS, arguments.split)
    inputs = {digest(short): load(name) for short, name in NAMES.items()}
    print(
        f"| expression ({arguments.split}) | sentiment | wordnet | mean | merge kept |\n|---|---|---|---|---|",
        flush=True,
    )
    for text in arguments.expressions or TABLE:
        seeds = range(arguments.seeds) if "seed=N" in text else range(1)
        runs = [score(scorer, text.replace("seed=N", f"seed={seed}"), inputs) for seed in seeds]
        means = [statistics.mean(run[0][task] for run in runs) for task in range(len(TASKS))]
        kept = "" if runs[0][1] is None else f"{runs[0][1]:.1%}"
        shown = " | ".join(f"{value:.3f}" for value in (*means, statistics.mean(means)))
        print(f"| `{text}` | {shown} | {kept} |", flush=True)


if __name__ == "__main__":
    main()
