"""Arms: the merges that are compared, ours by an expression and PEFT's by the arguments of its function.

It only says what they are; `workbench` merges.
"""

from collections.abc import Mapping
from dataclasses import dataclass

NAMES: Mapping[str, str] = {
    "s": "minilm-sentiment-r8",
    "w": "minilm-wordnet-r8",
    "g": "minilm-genre-r16-rslora-bf16",
}
TASKS: Mapping[str, str] = {"s": "sentiment", "w": "wordnet", "g": "genre"}


@dataclass(frozen=True)
class Ours:
    """An expression over `s`, `w` and `g`; `` is the base alone."""

    expression: str

    def __str__(self) -> str:
        return self.expression or "base"


@dataclass(frozen=True)
class Theirs:
    """A call of PEFT's `add_weighted_adapter`. `rank` is its svd_rank; where it is None, PEFT takes the inputs'."""

    kind: str
    weights: tuple[tuple[str, float], ...]
    rank: int | None = None
    density: float | None = None
    seed: int = 0

    def __str__(self) -> str:
        options = {"rank": self.rank, "density": self.density, "seed": self.seed}
        shown = ", ".join(f"{key}={value}" for key, value in options.items() if value is not None)
        inputs = ", ".join(f"{weight:g}*{name}" for name, weight in self.weights)
        return f"PEFT {self.kind}({inputs}, {shown})"


Arm = Ours | Theirs
