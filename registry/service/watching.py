"""Watching: what happened since a cursor, in commit order, as far as the caller may see it."""

from dataclasses import dataclass

from registry.domain.errors import WrongUsage
from registry.domain.records import Event
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.sql.catalog import Catalog

# What happens to adapters and bases. All else in the log (tokens, members) is for its auditors.
WATCHED = frozenset(
    {
        "adapter.edited",
        "adapter.deleted",
        "commit.added",
        "alias.moved",
        "version.status",
        "version.evaluated",
        "version.approved",
        "base.added",
        "base.linked",
        "job.submitted",
        "job.cancelled",
        "job.ended",
    }
)
MOST = 1000  # events looked at in one call


@dataclass(frozen=True, slots=True)
class Watched:
    """Events after a cursor. `cursor` is where to go on: it passes over events that the caller may not see."""

    events: tuple[Event, ...]
    cursor: int


class Watching(UseCases):
    """Follow the outbox."""

    def newest_cursor(self) -> int:
        """The cursor of the last event; 0 before the first."""
        with self.database.reading() as catalog:
            return catalog.events.last()

    def watch(self, cursor: int, *, limit: int = MOST) -> Watched:
        """The events after a cursor, oldest first; looks at no more than `limit` of them.

        None is lost, repeated or out of order: cursors are given in commit order. Raises WrongUsage for a cursor that
        this registry never gave.
        """
        with self.database.reading() as catalog:
            newest = catalog.events.last()
            if not 0 <= cursor <= newest:
                raise WrongUsage(f"the cursor {cursor} was never given: the newest one is {newest}")
            found = catalog.events.since(cursor, limit=min(limit, MOST))
            seen = tuple(event for event in found if self._sees(catalog, event))
        return Watched(seen, found[-1].cursor if found else cursor)

    def _sees(self, catalog: Catalog, event: Event) -> bool:
        if event.kind not in WATCHED:
            return False
        if event.adapter is None:
            return event.kind.startswith("base.") or self.caller.operates
        return self._may(catalog, Scope.READ, event.adapter.team)
