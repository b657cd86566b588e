"""Regular expressions in linear time: a small parser and an automaton, for patterns that come from strangers.

The standard `re` backtracks: `(a+)+b` on forty letters takes hours. This engine follows all alternatives at once, so
that a match costs at most (states x characters). It reads the regular part of Python's syntax and says the same as
`re.fullmatch` there; what isn't regular (look-around, back-references), flags and word boundaries are refused by name.

Source: K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

MAX_PATTERN = 1_000  # characters
MAX_DEPTH = 32  # nested groups
MAX_STATES = 10_000  # after counted repeats are written out
MAX_REPEAT = 1_000
_CACHED_STATES = 2_000  # sets of states that are remembered before starting afresh

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


# -- the automaton ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _State:
    """Either consumes a character that passes `test` and goes to `following[0]`, or goes on without one."""

    test: Predicate | None = None
    guard: type[Begin] | type[End] | None = None
    following: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Budget:
    """Steps that may still be taken; shared by all patterns of one file."""

    steps: int = 1_000_000

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise UnsupportedPattern("patterns that take too long on this many modules")


class Automaton:
    """A compiled pattern; `matches` says whether the whole text fits. Remembers sets of states, so that a second
    text costs a table look-up a character."""

    def __init__(self, node: Node) -> None:
        self._states: list[_State] = []
        self._compiled = 0
        self._accept = self._new(_State())
        self._start = self._compile(node, self._accept)
        self._reset()

    def _reset(self) -> None:
        self._numbers: dict[frozenset[int], int] = {}
        self._sets: list[frozenset[int]] = []
        self._moves: list[dict[str, int]] = []
        self._accepting: dict[int, bool] = {}

    def matches(self, text: str, budget: Budget) -> bool:
        budget.spend(len(text) // 4)
        current = self._number(self._closure([self._start], frozenset({Begin}), budget))
        for character in text:
            following = self._moves[current].get(character)
            if following is None:
                following = self._move(current, character, budget)
            current = following
            if not self._sets[current]:
                return False
        if not text:
            return self._accept in self._closure([self._start], frozenset({Begin, End}), budget)
        if current not in self._accepting:
            ending = self._closure(self._sets[current], frozenset({End}), budget)
            self._accepting[current] = self._accept in ending
        return self._accepting[current]

    def _number(self, states: frozenset[int]) -> int:
        number = self._numbers.setdefault(states, len(self._sets))
        if number == len(self._sets):
            self._sets.append(states)
            self._moves.append({})
        return number

    def _move(self, current: int, character: str, budget: Budget) -> int:
        states = self._sets[current]
        budget.spend(len(states))
        seeds = [
            following
            for state in map(self._states.__getitem__, states)
            if state.test is not None and state.test(character)
            for following in state.following
        ]
        reached = self._closure(seeds, frozenset(), budget)
        if len(self._sets) > _CACHED_STATES:
            self._reset()
            return self._number(reached)
        number = self._number(reached)
        self._moves[current][character] = number
        return number

    def _closure(
        self, seeds: Iterable[int], holds: frozenset[type[Begin] | type[End]], budget: Budget
    ) -> frozenset[int]:
        waiting, reached = list(seeds), set(seeds)
        while waiting:
            state = self._states[waiting.pop()]
            if state.test is None and (state.guard is None or state.guard in holds):
                new = [number for number in state.following if number not in reached]
                reached.update(new)
                waiting.extend(new)
        budget.spend(len(reached))
        return frozenset(reached)

    def _new(self, state: _State) -> int:
        if len(self._states) >= MAX_STATES:
            raise UnsupportedPattern(f"repeats that unfold to more than {MAX_STATES} states")
        self._states.append(state)
        return len(self._states) - 1

    def _compile(self, node: Node, following: int) -> int:
        """Number of the state that begins `node` and goes on at `following`."""
        self._compiled += 1
        if self._compiled > MAX_STATES:  # repeats of nothing make no states
            raise UnsupportedPattern(f"repeats that unfold to more than {MAX_STATES} parts")
        match node:
            case Sequence(parts):
                for part in reversed(parts):
                    following = self._compile(part, following)
                return following
            case Choice(options):
                return self._new(_State(following=[self._compile(option, following) for option in options]))
            case Repeat():
                return self._compile_repeat(node, following)
            case Begin() | End():
                return self._new(_State(guard=type(node), following=[following]))
            case _:
                return self._new(_State(test=_predicate(node), following=[following]))

    def _compile_repeat(self, node: Repeat, following: int) -> int:
        if node.most is None:
            loop = self._new(_State(following=[following]))
            self._states[loop].following.append(self._compile(node.part, loop))
            start = loop
        else:
            start = following
            for _ in range(node.most - node.least):
                start = self._new(_State(following=[self._compile(node.part, start), following]))
        for _ in range(node.least):
            start = self._compile(node.part, start)
        return start


def _predicate(node: Literal | Any | OneOf) -> Predicate:
    match node:
        case Literal(character):
            return character.__eq__
        case Any():
            return "\n".__ne__
        case OneOf(tests, negated):
            return lambda character: any(test(character) for test in tests) != negated
