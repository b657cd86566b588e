"""The one table of composition methods: names, parameters, bounds, defaults and revisions.

Everything that reads a recipe (the expression language, recipe files, the command line, the server) takes its rules
from here. It knows no tensors: how a method is computed is `composition`'s business. A method's `revision` is part of
every recipe digest; it goes up when the same inputs would give other numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from registry.domain.errors import InvalidRecipe

Value = int | float | tuple[float, ...]
"""A parameter's value. `weights` is a tuple with one number per input."""

MAX_INPUTS = 256


@dataclass(frozen=True, slots=True)
class Parameter:
    """One scalar of a method. `default` None means that it must be given; the bounds are inclusive."""

    name: str
    type: Literal["int", "float", "weights"]
    minimum: float
    maximum: float
    default: Value | None
    summary: str

    def read(self, value: object) -> Value:
        """Return a checked value of the declared type. Raises ValueError with the rule that it breaks."""
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


@dataclass(frozen=True, slots=True)
class Method:
    """A way to make one adapter of several. `arity` is (fewest, most) inputs; `written` how an expression says it.

    Inputs of a `commutative` method may be reordered (together with their weights) without changing the result.
    """

    name: str
    revision: int
    arity: tuple[int, int]
    parameters: tuple[Parameter, ...]
    commutative: bool
    written: str
    summary: str
    source: str

    @property
    def is_function(self) -> bool:
        """Whether an expression calls it by name; a sum is written with + and - instead."""
        return self.written.startswith(f"{self.name}(")


_LARGEST = 1.7976931348623157e308

_TABLE = (
    Method(
        name="linear",
        revision=1,
        arity=(1, MAX_INPUTS),
        parameters=(Parameter("weights", "weights", -_LARGEST, _LARGEST, None, "one factor per input"),),
        commutative=True,
        written="0.7*A + 0.3*B - 0.5*C",
        summary="The weighted sum of the deltas, exact: the ranks add up.",
        source="task arithmetic, arXiv 2212.04089, section 2",
    ),
    Method(
        name="lerp",
        revision=1,
        arity=(2, 2),
        parameters=(Parameter("t", "float", 0.0, 1.0, 0.5, "0 is the first input, 1 the second"),),
        commutative=False,
        written="lerp(A, B, t=0.5)",
        summary="Linear interpolation (1 - t)*A + t*B, exact: the ranks add up.",
        source="model soups, arXiv 2203.05482, for two models",
    ),
    Method(
        name="truncate",
        revision=1,
        arity=(1, 1),
        parameters=(Parameter("rank", "int", 1, 65536, None, "the largest rank that a module keeps"),),
        commutative=False,
        written="truncate(A, rank=16)",
        summary="The best approximation of each module's delta of at most this rank.",
        source="Eckart and Young 1936; Mirsky 1960",
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _TABLE})
"""Every method that the engine has, by name."""


def find_method(name: str, where: str) -> Method:
    """Look a method up. Raises InvalidRecipe that lists the known ones."""
    try:
        return METHODS[name]
    except KeyError:
        known = ", ".join(METHODS)
        raise InvalidRecipe(f"{where}.method", f"there is no method {name[:40]!r}; known are {known}") from None


def validate(name: str, params: Mapping[str, object], *, inputs: int, where: str = "root") -> dict[str, Value]:
    """Return a method's parameters with types checked and every default explicit.

    Raises InvalidRecipe; its `where` is `<where>.method`, `<where>.inputs` or `<where>.params.<name>`.
    """
    method = find_method(name, where)
    fewest, most = method.arity
    if not fewest <= inputs <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise InvalidRecipe(f"{where}.inputs", f"{name} takes {wanted} inputs, not {inputs}")
    for unknown in params.keys() - {parameter.name for parameter in method.parameters}:
        known = ", ".join(parameter.name for parameter in method.parameters)
        raise InvalidRecipe(f"{where}.params.{unknown}", f"{name} has no parameter {unknown!r}; it has {known}")
    values = {parameter.name: _value(parameter, params, where) for parameter in method.parameters}
    weights = values.get("weights")
    if isinstance(weights, tuple) and len(weights) != inputs:
        raise InvalidRecipe(f"{where}.params.weights", f"{len(weights)} weights for {inputs} inputs")
    return values


def _value(parameter: Parameter, params: Mapping[str, object], where: str) -> Value:
    place = f"{where}.params.{parameter.name}"
    given = params.get(parameter.name, parameter.default)
    if given is None:
        raise InvalidRecipe(place, f"{parameter.name} is missing: {parameter.summary}")
    try:
        return parameter.read(given)
    except ValueError as error:
        raise InvalidRecipe(place, str(error)) from None
