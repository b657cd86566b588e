"""What every use case stands on: the database, the blob store, a caller with rights, and a clock.

Rights are asked for here, in the service, so that every door (commands, HTTP, jobs) has the same ones.
"""

from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Self

from registry.blobs.store import BlobStore
from registry.domain.errors import AdapterNotFound, BlobNotFound, NotAllowed, TeamNotFound
from registry.domain.records import LOCAL_OWNER
from registry.domain.reference import AdapterName
from registry.domain.rights import Caller, Scope
from registry.domain.webhook_secrets import WebhookSecrets
from registry.sql.catalog import Catalog
from registry.sql.changes import Changes
from registry.sql.engine import Database

OWNER = Caller(LOCAL_OWNER, operator=True)  # whoever has the files of an embedded registry has every right in it
Progress = Callable[[str, int, int], None]  # what is being done, done so far, of how much (bytes)


def now() -> datetime:
    """The current time, aware, in UTC."""
    return datetime.now(UTC)


def silent(_what: str, _done: int, _total: int) -> None:
    """Progress that nobody watches."""


class UseCases:
    """Base of the rooms of `Registry`; a use case owns its transaction."""

    def __init__(
        self,
        database: Database,
        blobs: BlobStore,
        *,
        caller: Caller = OWNER,
        clock: Callable[[], datetime] = now,
        webhook_targets: str = "public",
        secret: bytes | None = None,
    ) -> None:
        self.database = database
        self.blobs = blobs
        self.caller = caller
        self.clock = clock
        self.webhook_targets = webhook_targets  # see registry.domain.targets
        self.webhook_secrets = WebhookSecrets(secret)

    def on_behalf_of(self, caller: Caller) -> Self:
        """The same registry for another caller; costs nothing."""
        targets = self.webhook_targets
        other = type(self)(self.database, self.blobs, caller=caller, clock=self.clock, webhook_targets=targets)
        other.webhook_secrets = self.webhook_secrets
        return other

    @property
    def actor(self) -> str:
        """The name that what is changed is signed with."""
        return self.caller.name

    @property
    def changes(self) -> Changes:
        """Marks of the registry's state: what was computed is right while the mark is the same."""
        return self.database.changes

    def readiness(self) -> dict[str, Callable[[], object]]:
        """What must work before requests are served: each call raises what is wrong."""
        return {
            "database": self._reach_database,
            "blobs": lambda: self.blobs.stat("0" * 64),
        }

    def _reach_database(self) -> None:
        with self.database.reading() as catalog:
            catalog.events.last()

    def require(self, catalog: Catalog, name: AdapterName, scope: Scope = Scope.READ) -> None:
        """Refuse what the caller has no right to.

        Raises NotAllowed; AdapterNotFound, as for an adapter that isn't there, where the caller may not even read.
        """
        if not self._may(catalog, Scope.READ, name.team):
            raise AdapterNotFound(str(name))
        if not self._may(catalog, scope, name.team):
            raise NotAllowed(self.actor, scope.value, f"in the team {name.team}")

    def require_team(self, catalog: Catalog, team: str, scope: Scope) -> None:
        """The same for a team. Raises NotAllowed, TeamNotFound."""
        if not self._may(catalog, Scope.READ, team):
            raise TeamNotFound(team)
        if not self._may(catalog, scope, team):
            raise NotAllowed(self.actor, scope.value, f"in the team {team}")

    def require_operator(self, action: str, subject: str) -> None:
        """Refuse what only those who run the registry may do. Raises NotAllowed."""
        if not self.caller.operates:
            raise NotAllowed(self.actor, action, subject)

    def possessed(self, team: str, digests: Collection[str]) -> set[str]:
        """Those of the digests that a team has: they stay for the grace from now at least.

        Of one that nothing refers to yet it isn't sure that the store has it: look afterwards.
        """
        with self.database.reading() as catalog:
            found = catalog.blobs.possessed(team, digests)
            idle = catalog.blobs.idle(found)
        if idle:
            with self.database.writing() as catalog:
                catalog.blobs.lease(idle, at=self.clock())
                found = catalog.blobs.possessed(team, digests)
        return found

    def hold(self, catalog: Catalog, team: str, digests: Collection[str]) -> None:
        """Make sure of blobs that the transaction refers to: from here on nobody removes them.

        The team has them, and their bytes are there. Lock the adapter first. Raises BlobNotFound.
        """
        held = catalog.blobs.hold(team, digests)
        idle = [sha256 for sha256, is_idle in held.items() if is_idle]
        for sha256 in (*(set(digests) - held.keys()), *idle):
            if sha256 not in held or self.blobs.stat(sha256) is None:
                raise BlobNotFound(sha256)
        catalog.blobs.refer(idle)

    def _may(self, catalog: Catalog, scope: Scope, team: str) -> bool:
        if self.caller.may(scope, team):
            return True
        return scope is Scope.READ and self.caller.reads_public and catalog.teams.is_public(team)

    def close(self) -> None:
        """Let go of the database's connections."""
        self.database.close()
