"""The main job on real adapters: push, blend, publish, pull, score, promote, roll back (`make demo`).

Every step is the command that a user would type, run as its own process on a registry in ./demo-registry
(SQLite and a folder). The registry stays there to be explored. `--svg FILE` also draws the second half as a picture.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / "demo-registry"
PROGRAM = Path(sys.executable).with_name("adapters")
ADAPTERS = Path("examples/adapters")
BASE = "sentence-transformers/all-MiniLM-L6-v2"
PULLED = HOME / "pulled"
TASKS = ["sentiment", "wordnet"]

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--svg", type=Path, help="draw the scores and the rollback into this file")
    picture = parser.parse_args().svg
    started = time.monotonic()
    shutil.rmtree(HOME, ignore_errors=True)
    from score import base_folder  # lazy: start-up time (torch and transformers)

    title("1  Register the base model, push two adapters trained on it")
    run("base", "add", BASE, short(base_folder()))
    run("push", f"{ADAPTERS}/minilm-sentiment-r8", "demo/sentiment", "--message", "film reviews: good or bad")
    run("push", f"{ADAPTERS}/minilm-wordnet-r8", "demo/wordnet", "--message", "glosses: what kind of thing")

    title("2  Blend them into one adapter, published with its lineage, and pull it")
    run("blend", "1.0*demo/sentiment + 1.0*demo/wordnet", "--into", "demo/both")
    run("lineage", "demo/both")
    run("pull", "demo/both", "--to", short(PULLED))

    if picture:
        console.record = True  # from here on
        console.width = 100
    title("3  Does the blend do both jobs? Held-out accuracy, 400 examples a task")
    show_scores()

    title("4  Promote it; then promote a worse version by mistake, and roll back")
    run("promote", "demo/both@v1", "production", "--reason", "does both jobs")
    run("push", f"{ADAPTERS}/minilm-sentiment-rank-pattern", "demo/both", "--message", "forgot wordnet")
    run("promote", "demo/both@v2", "production")
    run("rollback", "demo/both", "production", "--reason", "v2 only knows sentiment")
    run("history", "demo/both", "production")
    run("resolve", "demo/both@production")
    if picture:
        console.save_svg(str(picture), title="make demo")
    epilogue(time.monotonic() - started)
    return 0


def title(text: str) -> None:
    console.print()
    console.rule(f"[bold]{text}", align="left", style="cyan")


def run(*arguments: str) -> None:
    """Show a command as a user would type it, and run it."""
    shown = " ".join(f"'{a}'" if " " in a else a for a in arguments)
    console.print(f"\n[bold cyan]$[/] [bold]adapters {shown}[/]", soft_wrap=True)
    environment = os.environ | {"ADAPTERS_HOME": str(HOME)}
    for unwanted in ("ADAPTERS_DATABASE_URL", "ADAPTERS_BLOBS_URL", "ADAPTERS_REGISTRY"):
        environment.pop(unwanted, None)
    sys.stdout.flush()
    done = subprocess.run([PROGRAM, *arguments], check=True, cwd=ROOT, env=environment, **_captured())
    if done.stdout:
        console.print(done.stdout.rstrip(), markup=False)


def _captured() -> dict[str, Any]:
    """A picture holds what the programs print; otherwise they print, in colour, to the terminal themselves."""
    return {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True} if console.record else {}


def show_scores() -> None:
    """Score the base, both parents and the blend on both tasks, and print the table."""
    from score import Scorer  # lazy: start-up time

    scorer = Scorer(TASKS)
    rows = {
        "base model": None,
        "demo/sentiment": ROOT / ADAPTERS / "minilm-sentiment-r8",
        "demo/wordnet": ROOT / ADAPTERS / "minilm-wordnet-r8",
        "demo/both (the blend)": PULLED,
    }
    table = Table("adapter", *TASKS)
    for name, folder in rows.items():
        with console.status(f"scoring {name}"):
            scores = scorer.score(folder)
        style = "bold green" if folder == PULLED else ""
        table.add_row(name, *(f"{scores[task]:.3f}" for task in TASKS), style=style)
    console.print()
    console.print(table)


def epilogue(seconds: float) -> None:
    lines = [
        f"Done in {seconds:.0f} seconds. The registry stays in demo-registry/; explore it:",
        "",
        "  export ADAPTERS_HOME=$PWD/demo-registry PATH=$PWD/.venv/bin:$PATH",
        "  adapters list",
        "  adapters show demo/both@production",
        "  adapters search --rank 8..16 --target query",
        "  adapters diff demo/both@v1 demo/both@v2",
        "  adapters lineage demo/sentiment --descendants",
        "  adapters verify --deep",
    ]
    console.print()
    console.print(Panel("\n".join(lines), border_style="cyan", expand=False))


def short(path: Path) -> str:
    """A path as it looks from the project's root."""
    return os.path.relpath(path, ROOT)


if __name__ == "__main__":
    sys.exit(main())
