"""The expression language: "0.7*team/support@production + 0.3*team/german@v2 - 0.5*team/toxic"  <->  Recipe.

    expression = sum
    sum        = term { blank ("+" | "-") blank term }      blanks are required: an alias may contain "-"
    term       = [ "-" ] [ number "*" ] primary             no coefficient means 1
    primary    = reference | "(" sum ")" | function
    function   = name "(" sum { "," sum } { "," key "=" ( [ "-" ] number | word ) } ")"
    number     = 2 | 0.5 | .5 | 1e-3                        there is no division

`name` is a method of `registry.domain.methods` that is called by name. Blanks may stand anywhere else between these
parts. Bounds: 10,000 characters, 256 adapters, 64 nestings. The parser knows nothing of what references mean.
"""

import math
import re
from typing import NoReturn

from registry.domain.errors import InvalidExpression, InvalidRecipe, InvalidReference
from registry.domain.methods import METHODS, validate
from registry.domain.recipe import MAX_LEAVES, MAX_NESTING, Call, Leaf, Node, Recipe, linear
from registry.domain.reference import AdapterName, Reference

MAX_LENGTH = 10_000

_BLANKS = re.compile(r"[ \t\r\n]*")
_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_COEFFICIENT = re.compile(rf"({_NUMBER.pattern})[ \t\r\n]*\*")
_WORD = re.compile(r"[A-Za-z0-9._@:/-]+")
_CHOICE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYWORD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)[ \t\r\n]*=")

_UNEXPECTED = {
    "*": "a coefficient is a number in front of an adapter, as in 0.5*team/name",
    "/": "there is no division; write a coefficient in front, as in 0.5*(…)",
    "(": "a '+' or '-' belongs before this '('",
    ")": "there is no '(' for this ')'",
    ",": "a ',' only separates the inputs of a function",
    "=": "a '=' only gives a parameter of a function",
}


def parse(text: str, dtype: str = "float32") -> Recipe:
    """Read an expression. Raises InvalidExpression with the column of the first character that can't be read."""
    if len(text) > MAX_LENGTH:
        raise InvalidExpression(f"{text[:60]}…", 1, f"longer than {MAX_LENGTH:,} characters")
    return Recipe(_Parser(text).parse(), dtype)


def format(recipe: Recipe) -> str:
    """Write a recipe's tree as an expression; `parse` gives the same tree again. Its dtype has no place in it."""
    return _format_sum(recipe.root)


class _Parser:
    """Recursive descent over the text; `_at` is the offset of the next character."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._leaves = 0

    def parse(self) -> Node:
        node = self._sum(0)
        if self._at < len(self._text):
            self._fail_unexpected()
        return node

    def _sum(self, depth: int) -> Node:
        weight, child = self._term(depth)
        weights, children = [weight], [child]
        while (sign := self._operator()) is not None:
            weight, child = self._term(depth)
            weights.append(sign * weight + 0.0)
            children.append(child)
        return linear(tuple(weights), tuple(children))

    def _operator(self) -> int | None:
        """Consume a binary + or - with its blanks and return its sign; None at anything else."""
        end = self._at
        self._skip_blanks()
        operator = self._peek()
        if operator not in ("+", "-"):
            return None
        following = self._text[self._at + 1 : self._at + 2]
        if end == self._at or (following and following not in " \t\r\n"):
            self._fail(f"write blanks on both sides of this {operator!r}")
        self._at += 1
        return 1 if operator == "+" else -1

    def _term(self, depth: int) -> tuple[float, Node]:
        self._skip_blanks()
        weight = 1.0
        if self._peek() == "-":
            weight = -1.0
            self._at += 1
            self._skip_blanks()
        if match := _COEFFICIENT.match(self._text, self._at):
            weight *= self._finite(match[1])
            self._at = match.end()
            self._skip_blanks()
        return weight + 0.0, self._primary(depth)

    def _primary(self, depth: int) -> Node:
        if depth > MAX_NESTING:
            self._fail(f"nested deeper than {MAX_NESTING}")
        if self._peek() == "(":
            return self._parenthesis(depth)
        if _COEFFICIENT.match(self._text, self._at):
            self._fail("an adapter has one coefficient; multiply the numbers")
        match = _WORD.match(self._text, self._at)
        if match is None or match[0].startswith("-"):
            self._fail("an adapter (team/name) belongs here")
        if self._text[match.end() : match.end() + 1] == "(":
            return self._function(match[0], depth)
        return self._reference(match[0])

    def _parenthesis(self, depth: int) -> Node:
        opened = self._at
        self._at += 1
        node = self._sum(depth + 1)
        if not self._peek():
            self._fail("this '(' is never closed", opened)
        if self._peek() != ")":
            self._fail_unexpected()
        self._at += 1
        return node

    def _function(self, name: str, depth: int) -> Node:
        start = self._at
        if name not in METHODS or not METHODS[name].is_function:
            known = ", ".join(method.name for method in METHODS.values() if method.is_function)
            self._fail(f"there is no function {name[:40]!r}; known are {known}")
        opened = self._at + len(name)
        self._at = opened + 1
        children: list[Node] = []
        given: dict[str, tuple[int, int | float | str]] = {}
        while True:
            self._argument(children, given, depth)
            self._skip_blanks()
            if self._peek() != ",":
                break
            self._at += 1
        if not self._peek():
            self._fail("this '(' is never closed", opened)
        if self._peek() != ")":
            self._fail_unexpected()
        self._at += 1
        return self._call(name, children, given, start)

    def _argument(self, children: list[Node], given: dict[str, tuple[int, int | float | str]], depth: int) -> None:
        self._skip_blanks()
        match = _KEYWORD.match(self._text, self._at)
        if match is None:
            if given:
                self._fail("a function's inputs come before its parameters")
            children.append(self._sum(depth + 1))
            return
        if match[1] in given:
            self._fail(f"{match[1]!r} is given twice")
        start, self._at = self._at, match.end()
        given[match[1]] = (start, self._value())

    def _call(
        self, name: str, children: list[Node], given: dict[str, tuple[int, int | float | str]], start: int
    ) -> Node:
        params = {key: value for key, (_, value) in given.items()}
        try:
            return Call(name, validate(name, params, inputs=len(children), where=""), tuple(children))
        except InvalidRecipe as error:
            key = error.where.rpartition(".")[2]
            self._fail(error.reason, given[key][0] if key in given else start)

    def _value(self) -> int | float | str:
        self._skip_blanks()
        if match := _CHOICE.match(self._text, self._at):
            self._at = match.end()
            return match[0]
        return self._number()

    def _number(self) -> int | float:
        sign = -1 if self._peek() == "-" else 1
        self._at += sign < 0
        match = _NUMBER.match(self._text, self._at)
        if match is None:
            self._fail("a number or a word belongs here")
        value = int(match[0]) if match[0].isdigit() and len(match[0]) < 20 else self._finite(match[0])
        self._at = match.end()
        return sign * value

    def _finite(self, digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            self._fail("this number is too large")
        return value

    def _reference(self, word: str) -> Leaf:
        if _NUMBER.fullmatch(word):
            self._fail("a number is a coefficient: '*' and an adapter belong behind it", self._at + len(word))
        self._leaves += 1
        if self._leaves > MAX_LEAVES:
            self._fail(f"more than {MAX_LEAVES} adapters")
        try:
            reference = Reference.parse(word)
        except InvalidReference as error:
            self._fail_reference(word, error.reason)
        self._at += len(word)
        if self._peek() == "*" and "-" in word:
            self._fail("write blanks on both sides of a '-' that subtracts; a name may contain it")
        return Leaf(reference)

    def _fail_reference(self, word: str, reason: str) -> NoReturn:
        first = word.find("/")
        second = word.find("/", first + 1)
        if second > 0:
            reason = "a reference has one '/'"
            if _NUMBER.fullmatch(word[second + 1 :]):
                reason = "there is no division; write a coefficient in front, as in 0.5*team/name"
            elif "-" in word[first:second]:
                reason = "a reference has one '/'; write blanks on both sides of a '-' that subtracts"
            self._fail(reason, self._at + second)
        self._fail(reason, self._at + _selector_offset(word))

    def _skip_blanks(self) -> None:
        match = _BLANKS.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _fail_unexpected(self) -> NoReturn:
        character = self._peek()
        self._fail(_UNEXPECTED.get(character, f"a '+' or '-' belongs before {character!r}"))

    def _fail(self, reason: str, at: int | None = None) -> NoReturn:
        shown = "".join(character if character.isprintable() else " " for character in self._text)
        raise InvalidExpression(shown, (self._at if at is None else at) + 1, reason)


def _selector_offset(word: str) -> int:
    """Where a malformed reference goes wrong: behind the '@' if its name is fine, else at its first character."""
    name, at, _ = word.partition("@")
    try:
        AdapterName.parse(name)
    except InvalidReference:
        return 0
    return len(name) + len(at)


# -- writing ----------------------------------------------------------------------------------------------------------


def _format_sum(node: Node) -> str:
    if isinstance(node, Leaf) or node.method != "linear":
        return _format_primary(node)
    parts: list[str] = []
    for weight, child in zip(node.weights, node.children, strict=True):
        coefficient = "" if abs(weight) == 1 else f"{_format_number(abs(weight))}*"
        sign = ("-" if weight < 0 else "") if not parts else (" - " if weight < 0 else " + ")
        parts.append(f"{sign}{coefficient}{_format_primary(child)}")
    return "".join(parts)


def _format_primary(node: Node) -> str:
    if isinstance(node, Leaf):
        return str(node.reference)
    if node.method == "linear":
        return f"({_format_sum(node)})"
    arguments = [_format_sum(child) for child in node.children]
    for name, value in node.params.items():
        assert not isinstance(value, tuple)
        arguments.append(f"{name}={value if isinstance(value, str) else _format_number(value)}")
    return f"{node.method}({', '.join(arguments)})"


def _format_number(number: int | float) -> str:
    return repr(number).removesuffix(".0")
