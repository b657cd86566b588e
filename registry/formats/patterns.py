"""PEFT's `rank_pattern` and `alpha_pattern`: which value a module has.

A key is a regular expression that must match the module's name from a component's beginning to its end; the first
key that does wins, and a key that equals the name wins over the default. Keys come from strangers, and there may be
one for each of 37,000 modules: keys without an operator (nearly all) are looked up in a table, the others run on
`registry.formats.regex`.

Source: peft 0.21.2, utils/other.py, `get_pattern_key`: `re.match(rf"(.*\\.)?({key})$", name)`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from registry.domain.errors import InvalidAdapter, UnsupportedAdapter
from registry.formats.regex import Automaton, Budget
from registry.formats.regex_syntax import (
    MAX_PATTERN,
    Any,
    Begin,
    Literal,
    Node,
    PatternError,
    Repeat,
    Sequence,
    UnsupportedPattern,
    parse,
)

MAX_STEPS = 8_000_000  # over all modules of a file: seconds
MAX_GENERAL = 256  # keys with operators; a table of plain ones may be as long as the configuration

V = TypeVar("V")

# (.*\.)? in front of every key: it may begin at any component.
_PREFIX = Repeat(Sequence((Repeat(Any(), 0, None), Literal("."))), 0, 1)


@dataclass(frozen=True, slots=True)
class _PlainKey:
    """A key of single characters and dots. `holes` are the dots' places, where any character fits."""

    length: int
    holes: tuple[int, ...]
    whole: bool  # begins with ^: the name must not have anything in front


@dataclass(slots=True)
class PatternTable(Generic[V]):
    """The patterns of one configuration key, in the order of the file."""

    values: Mapping[str, V]
    _keys: tuple[str, ...]
    _plain: dict[int, dict[_PlainKey, dict[str, int]]]
    _general: list[tuple[int, Automaton]]
    _budget: Budget
    _where: str

    @classmethod
    def compile(cls, values: Mapping[str, V], where: str, *, steps: int = MAX_STEPS) -> "PatternTable[V]":
        """Prepare patterns; `where` names the configuration key in errors, `steps` bounds the work of all look-ups.

        Raises InvalidAdapter for a key that is no regular expression, UnsupportedAdapter for one that isn't regular.
        """
        table = cls(values, tuple(values), {}, [], Budget(steps), where)
        for index, key in enumerate(table._keys):
            try:
                table._add(index, key)
            except UnsupportedPattern as error:
                raise UnsupportedAdapter(where, repr(key[:200]), f"{error} can't be matched in linear time") from None
            except PatternError as error:
                raise InvalidAdapter(f"{where} {key[:200]!r}", str(error)) from None
        return table

    def get(self, name: str, default: V) -> V:
        """The value for a module's name."""
        key = self.key(name)
        return default if key is None else self.values[key]

    def key(self, name: str) -> str | None:
        """The key that decides for a module, or None where the default holds."""
        try:
            first = self._first_plain(name)
            for index, automaton in self._general:
                if index > first:
                    break
                if automaton.matches(name, self._budget):
                    first = index
                    break
        except UnsupportedPattern as error:
            raise UnsupportedAdapter("the adapter", self._where, str(error)) from None
        if first < len(self._keys):
            return self._keys[first]
        return name if name in self.values else None

    def _add(self, index: int, key: str) -> None:
        plain = _quick(key)
        if plain is None:
            node = parse(key)
            plain = _plain(node)
        if plain is None:
            if len(self._general) == MAX_GENERAL:
                raise UnsupportedPattern(f"more than {MAX_GENERAL} keys with operators")
            self._general.append((index, Automaton(Sequence((_PREFIX, node)))))
            return
        shape, text = plain
        self._plain.setdefault(shape.length, {}).setdefault(shape, {}).setdefault(text, index)

    def _first_plain(self, name: str) -> int:
        first, start = len(self._keys), 0
        while start >= 0:
            for shape, texts in self._plain.get(len(name) - start, {}).items():
                self._budget.spend(4)
                if start == 0 or not shape.whole:
                    first = min(first, texts.get(_masked(name[start:], shape.holes), first))
            start = name.find(".", start) + 1 or -1
        return first


_Plain = tuple[_PlainKey, str]
_NAME = re.compile(r"(\^?)([A-Za-z0-9_.-]*)", re.ASCII)


def _quick(key: str) -> _Plain | None:
    """A key that is a module's name, read without the parser: there may be tens of thousands."""
    name = _NAME.fullmatch(key)
    if name is None or len(key) > MAX_PATTERN:
        return None
    text = name[2]
    holes = tuple(index for index, character in enumerate(text) if character == ".") if "." in text else ()
    return _PlainKey(len(text), holes, whole=bool(name[1])), text


def _plain(node: Node) -> _Plain | None:
    parts = list(node.parts) if isinstance(node, Sequence) else [node]
    whole = bool(parts) and isinstance(parts[0], Begin)
    parts = parts[whole:]
    if not all(isinstance(part, Literal | Any) for part in parts):
        return None
    text = "".join(part.character if isinstance(part, Literal) else "." for part in parts)
    holes = tuple(index for index, part in enumerate(parts) if isinstance(part, Any))
    return _PlainKey(len(text), holes, whole), text


def _masked(text: str, holes: tuple[int, ...]) -> str:
    for hole in holes:
        if text[hole] != ".":
            return text[:hole] + _masked_rest(text, holes, hole)
    return text


def _masked_rest(text: str, holes: tuple[int, ...], first: int) -> str:
    characters = list(text)
    for hole in holes:
        characters[hole] = "."
    return "".join(characters[first:])
