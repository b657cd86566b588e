"""What the Hub calls a repository and a revision, and what that is of the registry.

repository   team/name                    an adapter
             team/name.at.production      a read-only view of it, whose `main` is that reference
revision     main                         the newest commit
             v3                           a version (a tag, to clients)
             production                   an alias (a branch, to clients)
             <40 hex>                     a commit
"""

import re
from dataclasses import dataclass

from registry.domain.reference import AdapterName, Reference

MAIN = "main"
_VIEW = ".at."
COMMIT = re.compile("[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that a path names: an adapter, or a view of it that shows `view` as its main."""

    adapter: AdapterName
    view: Reference | None = None

    @property
    def id(self) -> str:
        """Its name, as clients write it."""
        return f"{self.adapter}{_VIEW}{str(self.view).partition('@')[2]}" if self.view else str(self.adapter)

    def reference(self, revision: str) -> Reference:
        """What a revision is here. Raises InvalidReference."""
        if revision in (MAIN, f"refs/heads/{MAIN}"):
            return self.view or Reference(self.adapter)
        return Reference.parse(f"{self.adapter}@{revision}")


def repository(team: str, name: str) -> Repository:
    """The repository of that name. Raises InvalidReference."""
    name, _, shown = name.partition(_VIEW)
    adapter = AdapterName.parse(f"{team}/{name}")
    return Repository(adapter, Reference.parse(f"{adapter}@{shown}") if shown else None)
