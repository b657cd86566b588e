"""What every use case stands on: the database, the blob store, an actor and a clock."""

from collections.abc import Callable
from datetime import UTC, datetime

from registry.blobs.store import BlobStore
from registry.domain.records import LOCAL_OWNER
from registry.sql.engine import Database

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
        actor: str = LOCAL_OWNER,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.database = database
        self.blobs = blobs
        self.actor = actor
        self.clock = clock

    def close(self) -> None:
        """Let go of the database's connections."""
        self.database.close()
