"""Regular expressions in linear time: an automaton, for patterns that come from strangers.

The standard `re` backtracks: `(a+)+b` on forty letters takes hours. This engine follows all alternatives at once, so
that a match costs at most (states x characters), and says the same as `re.fullmatch`.

Source: K. Thompson, "Regular expression search algorithm", CACM 11(6), 1968.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from registry.formats.regex_syntax import (
    Any,
    Begin,
    Choice,
    End,
    Literal,
    Node,
    OneOf,
    Predicate,
    Repeat,
    Sequence,
    UnsupportedPattern,
)

MAX_STATES = 10_000  # after counted repeats are written out
_CACHED_STATES = 2_000  # sets of states that are remembered before starting afresh


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
