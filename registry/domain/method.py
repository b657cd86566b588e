"""Method and Parameter: what a composition method declares of itself, and how its options are read.

It knows neither which methods there are (`methods` has the table) nor how they compute.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = int | float | str | tuple[float, ...]
"""A parameter's value: a number, a word, or `weights`, one number per input."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option of a method. The bounds are inclusive; a `choice` has words instead.

    `default` None means that it must be given, unless it is `optional`: then it is absent where nobody gave it.
    """

    name: str
    type: Literal["int", "float", "weights", "choice"]
    minimum: float
    maximum: float
    default: Value | None
    summary: str
    choices: tuple[str, ...] = ()
    optional: bool = False

    def read(self, value: object) -> Value:
        """Return a checked value of the declared type. Raises ValueError with the rule that it breaks."""
        if self.type == "choice":
            return self._word(value)
        if self.type == "weights":
            if not isinstance(value, list | tuple):
                raise ValueError(f"{self.name} is a list of numbers")
            return tuple(self._number(item) for item in value)
        number = self._number(value)
        if self.type == "float":
            return number
        if not number.is_integer():
            raise ValueError(f"{self.name} is a whole number, not {value!r}")
        return int(number)

    def _word(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"{self.name} is one of {', '.join(self.choices)}, not {str(value)[:40]!r}")
        return value

    def _number(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.name} is a number, not {str(value)[:40]!r}")
        try:
            number = float(value) + 0.0  # -0.0 becomes 0.0: one spelling of zero
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{self.name} is not finite")
        if not self.minimum <= number <= self.maximum:
            raise ValueError(f"{self.name} is {number:g}, not within {self.minimum:g} and {self.maximum:g}")
        return number


def choice(name: str, default: str, others: tuple[str, ...], summary: str) -> Parameter:
    """A parameter that is a word: the default or one of the others."""
    return Parameter(name, "choice", 0, 0, default, summary, (default, *others))


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make one adapter of several. `arity` is (fewest, most) inputs; `written` how an expression says it.

    Inputs of a `commutative` method may be reordered (together with their weights) without changing the result.
    One of `needed` must be given, and no two of `exclusive`. A preset {name: options} replaces defaults; it leaves no
    trace but them, so that writing the options out is the same recipe.
    """

    name: str
    revision: int
    arity: tuple[int, int]
    parameters: tuple[Parameter, ...]
    commutative: bool
    written: str
    summary: str
    source: str
    needed: tuple[str, ...] = ()
    exclusive: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def is_function(self) -> bool:
        """Whether an expression calls it by name; a sum is written with + and - instead."""
        return self.written.startswith(f"{self.name}(")
