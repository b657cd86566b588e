"""Which files of a folder a .gitignore leaves out.

Texts and paths come from strangers: what applying one may cost is bounded, and no pattern is tried in more ways than
the path has components.

Source: https://git-scm.com/docs/gitignore
"""

import re
from dataclasses import dataclass, field
from fnmatch import translate

from registry.domain.errors import WrongUsage

MOST_RULES = 1_000
_MOST_STEPS = 500_000  # comparisons of a component with a pattern's, for one text
_ANY = "**"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A line: `components` match a whole path when it is anchored, else its last component."""

    components: tuple[re.Pattern[str] | None, ...]  # None: any number of folders
    negated: bool
    folders: bool
    anchored: bool


@dataclass(slots=True)
class Ignore:
    """The rules of one text, and how many comparisons may still be made with them."""

    rules: tuple[_Rule, ...]
    _left: int = field(default=_MOST_STEPS)

    @classmethod
    def parse(cls, text: str) -> "Ignore":
        """Read a .gitignore; lines that mean nothing to git mean nothing here. Raises WrongUsage for too many."""
        rules = [rule for line in text.splitlines()[: MOST_RULES + 1] if (rule := _rule(line))]
        if len(rules) > MOST_RULES:
            raise WrongUsage(f"the .gitignore has more than {MOST_RULES:,} rules")
        return cls(tuple(rules))

    def covers(self, path: str) -> bool:
        """Whether a file is left out. Raises WrongUsage once telling so has cost too much."""
        parts = path.split("/")
        # A file in a folder that is left out can't be taken in again.
        return any(self._decides(parts[:depth], depth < len(parts)) for depth in range(1, len(parts) + 1))

    def _decides(self, parts: list[str], is_folder: bool) -> bool:
        for rule in reversed(self.rules):
            if (is_folder or not rule.folders) and self._matches(rule, parts):
                return not rule.negated
        return False

    def _matches(self, rule: _Rule, parts: list[str]) -> bool:
        """Whether a rule matches: `reached` are the numbers of components that the pattern so far can stand for."""
        parts = parts if rule.anchored else parts[-1:]
        reached = {0}
        for component in rule.components:
            self._spend(len(reached))
            if component is None:
                reached = set(range(min(reached), len(parts) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(parts) and component.match(parts[at])}
            if not reached:
                return False
        return len(parts) in reached

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise WrongUsage("the .gitignore takes too long to apply to so many files; write fewer rules")


def _rule(line: str) -> _Rule | None:
    pattern = _without_blanks(line)
    if not pattern or pattern.startswith("#"):
        return None
    negated = pattern.startswith("!")
    pattern = pattern[negated:]
    folders, body = pattern.endswith("/"), pattern.rstrip("/")
    anchored = "/" in body
    try:
        components = tuple(_component(part) for part in body.lstrip("/").split("/") if part)
    except re.error:
        return None
    if not components:
        return None
    # What ends in "/**" means what is inside, not the folder itself.
    if components[-1] is None and len(components) > 1:
        components = (*components, re.compile(""))
    return _Rule(components, negated, folders, anchored)


def _without_blanks(line: str) -> str:
    stripped = line.rstrip(" ")
    return stripped + " " if stripped.endswith("\\") and stripped != line else stripped


def _component(text: str) -> re.Pattern[str] | None:
    if text == _ANY:
        return None
    # fnmatch knows no escapes: an escaped wildcard becomes a set of one, anything else itself.
    plain = re.sub(r"\\(.)", lambda escaped: f"[{escaped[1]}]" if escaped[1] in "*?[" else escaped[1], text)
    return re.compile(translate(plain.replace("[^", "[!")))
