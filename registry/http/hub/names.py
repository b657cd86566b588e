"""What the Hub calls a repository and a revision, and what that is of the registry.

repository   team/name                    an adapter
             team/name.at.production      a read-only view of it, whose `main` is that reference
revision     main                         the newest commit
             v3                           a version (a tag, to clients)
             production                   an alias (a branch, to clients)
             <40 hex>                     a commit
             1.0                          a tag that somebody made, if no alias has its name
             refs/heads/…, refs/tags/…    the same, in full
"""

import re
from dataclasses import dataclass

from starlette.exceptions import HTTPException

from registry.domain.errors import InvalidReference, VersionNotFound
from registry.domain.reference import AdapterName, Reference, Selector, check_tag

MAIN = "main"
_VIEW = ".at."
COMMIT = re.compile("[0-9a-f]{40}")
_IN_FULL = ("refs/heads/", "refs/tags/")
_ELSEWHERE = ("refs/pr/", "refs/convert/")  # refs that only the Hub has


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that a path names: an adapter, or a view of it that shows `view` as its main."""

    adapter: AdapterName
    view: Reference | None = None

    @property
    def id(self) -> str:
        """Its name, as clients write it."""
        return f"{self.adapter}{_VIEW}{str(self.view).partition('@')[2]}" if self.view else str(self.adapter)

    def named(self, adapter: AdapterName) -> str:
        """Its name, with the adapter's in the spelling in which it is kept."""
        return f"{adapter}{self.id[len(str(self.adapter)) :]}"

    def reference(self, revision: str) -> Reference:
        """What a revision is here. Raises VersionNotFound for what can't be one, HTTPException for the Hub's own."""
        if revision.startswith(_ELSEWHERE):
            raise HTTPException(501, f"{revision[:80]}: pull requests and conversions are not offered here")
        for prefix in _IN_FULL:
            revision = revision.removeprefix(prefix)
        if revision == MAIN:
            return self.view or Reference(self.adapter)
        try:
            return Reference.parse(f"{self.adapter}@{revision}")
        except InvalidReference:
            if _is_tag(revision):
                return Reference(self.adapter, Selector.ALIAS, revision)
            raise VersionNotFound(str(self.adapter), f"revision {revision[:80]!r}") from None


def _is_tag(revision: str) -> bool:
    """Whether something can be a tag. One may begin with a digit, which an alias can't."""
    try:
        return bool(check_tag(revision))
    except InvalidReference:
        return False


def repository(team: str, name: str) -> Repository:
    """The repository of that name. Raises InvalidReference."""
    name, _, shown = name.partition(_VIEW)
    adapter = AdapterName.parse(f"{team}/{name}")
    return Repository(adapter, Reference.parse(f"{adapter}@{shown}") if shown else None)
