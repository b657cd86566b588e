"""References: `team/name`, and `team/name@selector` with a version, an alias, a commit or a digest.

Grammar (also in docs/references.md):

    reference = name [ "@" selector ]
    name      = part "/" part
    part      = 1-63 of [A-Za-z0-9._-], alphanumeric at both ends, no ".." or "--", not ending ".git", no ".at."
    selector  = "v" digits | 40 hex | ("sha256:" | "sha256-") 12-64 hex | alias
    alias     = a letter, then the characters of a part; not main, latest, head, v<digits>, sha256…, 40 hex
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from registry.domain.digest import SERVING_DIGITS
from registry.domain.errors import InvalidReference

_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?", re.ASCII)
_VERSION = re.compile(r"v([0-9]{1,18})", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)
_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{12,64})", re.ASCII)
_RESERVED = frozenset({"main", "latest", "head"})


class Selector(StrEnum):
    """What stands behind the `@`."""

    MAIN = "main"
    VERSION = "version"
    ALIAS = "alias"
    COMMIT = "commit"
    DIGEST = "digest"


def check_part(part: str, what: str, text: str) -> str:
    """Return a valid team or adapter name. Raises InvalidReference with the rule that it breaks."""
    if not part:
        raise InvalidReference(text, f"the {what} is empty")
    if not _PART.fullmatch(part):
        raise InvalidReference(
            text, f"the {what} {part[:80]!r} is not 1-63 of [A-Za-z0-9._-], alphanumeric at both ends"
        )
    for forbidden in ("..", "--", ".at."):
        if forbidden in part:
            raise InvalidReference(text, f"the {what} {part!r} contains {forbidden!r}")
    if part.lower().endswith(".git"):
        raise InvalidReference(text, f"the {what} {part!r} ends in '.git'")
    return part


def check_alias(alias: str) -> str:
    """Return a valid alias. Raises InvalidReference for a reserved or malformed one."""
    check_part(alias, "alias", alias)
    if not alias[0].isalpha():
        raise InvalidReference(alias, "an alias begins with a letter")
    return _not_reserved(alias, "alias")


def check_tag(tag: str) -> str:
    """Return a valid name of a tag: an alias's, which may begin with a digit. Raises InvalidReference."""
    check_part(tag, "tag", tag)
    return _not_reserved(tag, "tag")


def _not_reserved(name: str, what: str) -> str:
    lowered = name.lower()
    if (
        lowered in _RESERVED
        or lowered.startswith("sha256")
        or _VERSION.fullmatch(lowered)
        or _COMMIT.fullmatch(lowered)
    ):
        raise InvalidReference(name, f"the {what} {name!r} is reserved")
    return name


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """An adapter line: `team/name`."""

    team: str
    name: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `team/name`. Raises InvalidReference."""
        team, slash, name = text.partition("/")
        if not slash:
            raise InvalidReference(text, "a name is written team/name")
        return cls(check_part(team, "team", text), check_part(name, "name", text))

    @property
    def key(self) -> str:
        """The form that is unique: names that differ only in case are one name."""
        return f"{self.team}/{self.name}".lower()

    def __str__(self) -> str:
        return f"{self.team}/{self.name}"


@dataclass(frozen=True, slots=True)
class Reference:
    """`adapter@selector`. `value` is the version number, alias, commit or digest digits as text; "" for main."""

    adapter: AdapterName
    selector: Selector = Selector.MAIN
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference. Raises InvalidReference with what is wrong."""
        name, at, selector = text.partition("@")
        adapter = AdapterName.parse(name)
        if not at or selector == "main":
            return cls(adapter)
        return cls(adapter, *_parse_selector(selector, text))

    @property
    def number(self) -> int:
        """The version number; only for Selector.VERSION."""
        return int(self.value)

    def __str__(self) -> str:
        if self.selector is Selector.MAIN:
            return str(self.adapter)
        prefix = {Selector.VERSION: "v", Selector.DIGEST: "sha256:"}.get(self.selector, "")
        return f"{self.adapter}@{prefix}{self.value}"


def _parse_selector(selector: str, text: str) -> tuple[Selector, str]:
    if not selector:
        raise InvalidReference(text, "nothing follows the '@'")
    if match := _VERSION.fullmatch(selector):
        return Selector.VERSION, str(int(match[1]))
    if match := _DIGEST.fullmatch(selector):
        return Selector.DIGEST, match[1]
    if selector.startswith(("sha256:", "sha256-")):
        raise InvalidReference(text, "a digest is sha256: and 12 to 64 lowercase hex digits")
    if _COMMIT.fullmatch(selector):
        return Selector.COMMIT, selector
    try:
        return Selector.ALIAS, check_alias(selector)
    except InvalidReference as error:
        raise InvalidReference(text, error.reason) from None


def serving_name(adapter: AdapterName, digest: str) -> str:
    """The name under which an engine should load a version: it holds the content, so a new content is a new name."""
    return f"{adapter.name}@sha256-{digest[:SERVING_DIGITS]}"
