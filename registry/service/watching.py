"""Watching: what happened since a cursor, in commit order, as far as the caller may see it.

And for whoever keeps answers of look-ups: which of them what happened may have made wrong. That rests on a law, which
the tests of this room hold every use case to: nothing that a look-up reads changes without an event.
"""

from dataclasses import dataclass

from registry.domain.errors import WrongUsage
from registry.domain.records import Event
from registry.domain.rights import Scope
from registry.service.core import UseCases
from registry.sql.catalog import Catalog
from registry.sql.events import Place

# What happens to adapters and bases. All else in the log (tokens, members) is for its auditors.
WATCHED = frozenset(
    {
        "adapter.created",
        "adapter.edited",
        "adapter.deleted",
        "commit.added",
        "alias.moved",
        "version.status",
        "version.evaluated",
        "version.approved",
        "version.damaged",
        "version.repaired",
        "tag.created",
        "tag.deleted",
        "base.added",
        "base.linked",
        "job.submitted",
        "job.cancelled",
        "job.ended",
    }
)
# What is told of an adapter and says nothing about any other one.
_OF_ITS_ADAPTER = frozenset(
    {
        "adapter.created",
        "commit.added",
        "alias.moved",
        "version.status",
        "version.evaluated",
        "version.approved",
        "version.damaged",
        "version.repaired",
        "gate.set",
        "gate.removed",
        "tag.created",
        "tag.deleted",
        "job.cancelled",
        "job.ended",
        "job.submitted",
    }
)
_OF_CALLERS = frozenset({"token.created", "token.revoked", "team.role"})  # who may read what, not what there is
_OF_BYTES = frozenset({"blobs.removed"})  # which no look-up reads
MOST = 1000  # events looked at in one call


@dataclass(frozen=True, slots=True)
class Watched:
    """Events after a cursor. `cursor` is where to go on: it passes over events that the caller may not see."""

    events: tuple[Event, ...]
    cursor: int


@dataclass(frozen=True, slots=True)
class News:
    """What may have changed since somebody last asked: answers about `adapters` (keys; None stands for all), `callers`.

    `place` is where the log ended when this was read, which is what to ask with next time.
    """

    place: Place
    adapters: frozenset[str] | None
    callers: bool


class Watching(UseCases):
    """Follow the outbox."""

    def news(self, since: Place | None) -> News:
        """What may have changed since a place of the log; since None, everything."""
        with self.database.reading() as catalog:
            place = catalog.events.place()
            if place == since:
                return News(place, frozenset(), False)
            headings = catalog.events.headings(since, limit=MOST) if since else None
        if headings is None or any(kind not in _OF_ITS_ADAPTER | _OF_CALLERS | _OF_BYTES for kind, _ in headings):
            return News(place, None, True)
        touched = frozenset(name.key for kind, name in headings if kind in _OF_ITS_ADAPTER and name)
        return News(place, touched, any(kind in _OF_CALLERS for kind, _ in headings))

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
