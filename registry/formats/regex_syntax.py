"""The syntax of the patterns that `registry.formats.regex` runs: the regular part of Python's, as a tree.

What isn't regular (look-around, back-references), flags and word boundaries are refused by name.
"""

from collections.abc import Callable
from dataclasses import dataclass

MAX_PATTERN = 1_000  # characters
MAX_DEPTH = 32  # nested groups
MAX_REPEAT = 1_000

Predicate = Callable[[str], bool]


class PatternError(ValueError):
    """The pattern is not a regular expression. The message says what is wrong, and where."""


class UnsupportedPattern(PatternError):
    """A pattern that `re` takes and we don't. The message names the construct."""


# -- the syntax tree --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Literal:
    character: str


@dataclass(frozen=True, slots=True)
class Any:
    """The dot: anything but a line feed."""


@dataclass(frozen=True, slots=True)
class OneOf:
    tests: tuple[Predicate, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Begin:
    pass


@dataclass(frozen=True, slots=True)
class End:
    pass


@dataclass(frozen=True, slots=True)
class Sequence:
    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Choice:
    options: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Repeat:
    """`most` None means without end."""

    part: "Node"
    least: int
    most: int | None


Node = Literal | Any | OneOf | Begin | End | Sequence | Choice | Repeat


# -- the parser -------------------------------------------------------------------------------------------------------

_CLASSES: dict[str, Predicate] = {
    "d": str.isdecimal,
    "s": str.isspace,
    "w": lambda character: character.isalnum() or character == "_",
    "D": lambda character: not character.isdecimal(),
    "S": lambda character: not character.isspace(),
    "W": lambda character: not (character.isalnum() or character == "_"),
}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}


def parse(pattern: str) -> Node:
    """Read a pattern. Raises PatternError, or UnsupportedPattern for what `re` takes and we don't."""
    if len(pattern) > MAX_PATTERN:
        raise UnsupportedPattern(f"a pattern of {len(pattern)} characters ({MAX_PATTERN} are allowed)")
    parser = _Parser(pattern)
    node = parser.choice(0)
    if not parser.at_end():
        raise PatternError(f"unbalanced parenthesis at position {parser.position}")
    return node


@dataclass(slots=True)
class _Parser:
    """Recursive descent over one pattern."""

    text: str
    position: int = 0

    def at_end(self) -> bool:
        return self.position >= len(self.text)

    def peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def take(self) -> str:
        character = self.peek()
        if not character:
            raise PatternError("the pattern ends too early")
        self.position += 1
        return character

    def accept(self, expected: str) -> bool:
        found = self.text.startswith(expected, self.position)
        self.position += len(expected) * found
        return found

    def choice(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise UnsupportedPattern(f"groups nested deeper than {MAX_DEPTH}")
        options = [self.sequence(depth)]
        while self.accept("|"):
            options.append(self.sequence(depth))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def sequence(self, depth: int) -> Node:
        parts: list[Node] = []
        while not self.at_end() and self.peek() not in "|)":
            parts.append(self.repeated(depth))
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def repeated(self, depth: int) -> Node:
        start = self.position
        node = self.atom(depth)
        counts = self.quantifier()
        if counts is None:
            return node
        if isinstance(node, Begin | End) and self.text[start] != "(":
            raise PatternError(f"nothing to repeat at position {start}")
        self.accept("?")  # a lazy repeat matches the same texts
        if self.peek() == "+":
            raise UnsupportedPattern("a possessive quantifier")
        if self.quantifier() is not None:
            raise PatternError(f"multiple repeat at position {self.position}")
        return Repeat(node, *counts)

    def quantifier(self) -> tuple[int, int | None] | None:
        for sign, counts in {"*": (0, None), "+": (1, None), "?": (0, 1)}.items():
            if self.accept(sign):
                return counts
        if self.peek() != "{":
            return None
        inner, closed, _ = self.text[self.position + 1 :].partition("}")
        least, comma, most = inner.partition(",")
        if not closed or not _is_count(least) or not _is_count(most) or not (least or comma):
            return None  # an ordinary brace
        self.position += len(inner) + 2
        return _counts(least, comma, most)

    def atom(self, depth: int) -> Node:
        character = self.take()
        if character == "(":
            return self.group(depth)
        if character == "[":
            return self.one_of()
        if character == "\\":
            return self.escape()
        if character in "*+?" or (character == "{" and self._is_quantifier_here()):
            raise PatternError(f"nothing to repeat at position {self.position - 1}")
        simple: dict[str, Node] = {".": Any(), "^": Begin(), "$": End()}
        return simple.get(character) or Literal(character)

    def _is_quantifier_here(self) -> bool:
        start = self.position
        self.position -= 1
        counts = self.quantifier()
        self.position = start
        return counts is not None

    def group(self, depth: int) -> Node:
        if self.accept("?"):
            self._group_kind()
        node = self.choice(depth + 1)
        if not self.accept(")"):
            raise PatternError("missing ), unterminated group")
        return node if not isinstance(node, Begin | End) else Sequence((node,))

    def _group_kind(self) -> None:
        if self.accept(":"):
            return
        if self.accept("P<"):
            name, closed, _ = self.text[self.position :].partition(">")
            if not closed or not name.isidentifier():
                raise PatternError(f"bad group name at position {self.position}")
            self.position += len(name) + 1
            return
        kinds = {"=": "look-ahead", "!": "look-ahead", "<": "look-behind", "P": "a back-reference", "#": "a comment"}
        raise UnsupportedPattern(kinds.get(self.peek(), f"the group (?{self.peek()}"))

    def escape(self) -> Node:
        character = self.take()
        if character in _CLASSES:
            return OneOf((_CLASSES[character],), negated=False)
        if character == "A":
            return Begin()
        if character == "Z":
            return End()
        if character in "bB":
            raise UnsupportedPattern(f"the word boundary \\{character}")
        return Literal(self.escaped_character(character))

    def escaped_character(self, character: str) -> str:
        if character in _CONTROLS:
            return _CONTROLS[character]
        if character in _HEX_DIGITS:
            return self._hex(character)
        if character.isdecimal():
            raise UnsupportedPattern("a back-reference or octal escape")
        if character.isascii() and character.isalpha():
            raise PatternError(f"bad escape \\{character} at position {self.position - 2}")
        return character

    def _hex(self, kind: str) -> str:
        count = _HEX_DIGITS[kind]
        digits = self.text[self.position : self.position + count]
        if len(digits) < count or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise PatternError(f"bad escape \\{kind} at position {self.position - 2}")
        self.position += count
        if int(digits, 16) > 0x10FFFF:
            raise PatternError(f"bad escape \\{kind} at position {self.position}")
        return chr(int(digits, 16))

    def one_of(self) -> Node:
        negated = self.accept("^")
        tests: list[Predicate] = []
        while not tests or self.peek() != "]":
            first = self._class_item()
            if self.peek() == "-" and self.text[self.position + 1 : self.position + 2] not in ("]", ""):
                self.position += 1
                first = _between(first, self._class_item())
            tests.append(first if callable(first) else first.__eq__)
        self.position += 1
        return OneOf(tuple(tests), negated)

    def _class_item(self) -> str | Predicate:
        character = self.take()
        if character != "\\":
            return character
        character = self.take()
        if character in _CLASSES:
            return _CLASSES[character]
        return "\b" if character == "b" else self.escaped_character(character)


def _is_count(digits: str) -> bool:
    return digits.isascii() and (digits.isdecimal() or not digits)


def _counts(least: str, comma: str, most: str) -> tuple[int, int | None]:
    low = int(least or 0)
    high = low if not comma else int(most) if most else None
    if max(low, high or 0) > MAX_REPEAT:
        raise UnsupportedPattern(f"a repeat of more than {MAX_REPEAT}")
    if high is not None and high < low:
        raise PatternError("min repeat greater than max repeat")
    return low, high


def _between(first: str | Predicate, last: str | Predicate) -> Predicate:
    if callable(first) or callable(last) or first > last:
        raise PatternError("bad character range")
    return lambda character: first <= character <= last
