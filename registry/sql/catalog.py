"""The catalog of one transaction: nouns, each with its own file, built when first used."""

from functools import cached_property
from typing import TYPE_CHECKING

from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from registry.sql.adapters import Adapters
    from registry.sql.aliases import Aliases
    from registry.sql.bases import Bases
    from registry.sql.blobs import Blobs
    from registry.sql.collection import Collection
    from registry.sql.commits import Commits
    from registry.sql.deliveries import Deliveries, Upkeep
    from registry.sql.evaluations import Evaluations
    from registry.sql.events import Events
    from registry.sql.figures import Gauges
    from registry.sql.gates import Gates
    from registry.sql.integrity import Integrity
    from registry.sql.jobs import Jobs
    from registry.sql.lineage import Lineages
    from registry.sql.quotas import Quotas
    from registry.sql.search import Search
    from registry.sql.tags import Tags
    from registry.sql.teams import Teams
    from registry.sql.tokens import Tokens
    from registry.sql.uploads import AnsweredRequests, Uploads
    from registry.sql.versions import Versions
    from registry.sql.webhooks import Webhooks
    from registry.sql.xorbs import Xorbs


class Catalog:
    """Every query there is. Lives as long as its transaction; not for use from several threads.

    Nouns are imported when first used: a look-up should not pay for tables that it doesn't read.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @cached_property
    def adapters(self) -> "Adapters":
        from registry.sql.adapters import Adapters  # lazy: start-up time

        return Adapters(self._connection)

    @cached_property
    def commits(self) -> "Commits":
        from registry.sql.commits import Commits  # lazy: start-up time

        return Commits(self._connection)

    @cached_property
    def versions(self) -> "Versions":
        from registry.sql.versions import Versions  # lazy: start-up time

        return Versions(self._connection)

    @cached_property
    def aliases(self) -> "Aliases":
        from registry.sql.aliases import Aliases  # lazy: start-up time

        return Aliases(self._connection)

    @cached_property
    def bases(self) -> "Bases":
        from registry.sql.bases import Bases  # lazy: start-up time

        return Bases(self._connection)

    @cached_property
    def blobs(self) -> "Blobs":
        from registry.sql.blobs import Blobs  # lazy: start-up time

        return Blobs(self._connection)

    @cached_property
    def collection(self) -> "Collection":
        from registry.sql.collection import Collection  # lazy: start-up time

        return Collection(self._connection)

    @cached_property
    def integrity(self) -> "Integrity":
        from registry.sql.integrity import Integrity  # lazy: start-up time

        return Integrity(self._connection)

    @cached_property
    def lineage(self) -> "Lineages":
        from registry.sql.lineage import Lineages  # lazy: start-up time

        return Lineages(self._connection)

    @cached_property
    def evaluations(self) -> "Evaluations":
        from registry.sql.evaluations import Evaluations  # lazy: start-up time

        return Evaluations(self._connection)

    @cached_property
    def events(self) -> "Events":
        from registry.sql.events import Events  # lazy: start-up time

        return Events(self._connection)

    @cached_property
    def teams(self) -> "Teams":
        from registry.sql.teams import Teams  # lazy: start-up time

        return Teams(self._connection)

    @cached_property
    def tokens(self) -> "Tokens":
        from registry.sql.tokens import Tokens  # lazy: start-up time

        return Tokens(self._connection)

    @cached_property
    def gates(self) -> "Gates":
        from registry.sql.gates import Gates  # lazy: start-up time

        return Gates(self._connection)

    @cached_property
    def jobs(self) -> "Jobs":
        from registry.sql.jobs import Jobs  # lazy: start-up time

        return Jobs(self._connection)

    @cached_property
    def uploads(self) -> "Uploads":
        from registry.sql.uploads import Uploads  # lazy: start-up time

        return Uploads(self._connection)

    @cached_property
    def answered(self) -> "AnsweredRequests":
        from registry.sql.uploads import AnsweredRequests  # lazy: start-up time

        return AnsweredRequests(self._connection)

    @cached_property
    def webhooks(self) -> "Webhooks":
        from registry.sql.webhooks import Webhooks  # lazy: start-up time

        return Webhooks(self._connection)

    @cached_property
    def deliveries(self) -> "Deliveries":
        from registry.sql.deliveries import Deliveries  # lazy: start-up time

        return Deliveries(self._connection)

    @cached_property
    def upkeep(self) -> "Upkeep":
        from registry.sql.deliveries import Upkeep  # lazy: start-up time

        return Upkeep(self._connection)

    @cached_property
    def quotas(self) -> "Quotas":
        from registry.sql.quotas import Quotas  # lazy: start-up time

        return Quotas(self._connection)

    @cached_property
    def xorbs(self) -> "Xorbs":
        from registry.sql.xorbs import Xorbs  # lazy: start-up time

        return Xorbs(self._connection)

    @cached_property
    def tags(self) -> "Tags":
        from registry.sql.tags import Tags  # lazy: start-up time

        return Tags(self._connection)

    @cached_property
    def gauges(self) -> "Gauges":
        from registry.sql.figures import Gauges  # lazy: start-up time

        return Gauges(self._connection)

    @cached_property
    def search(self) -> "Search":
        from registry.sql.search import Search  # lazy: start-up time

        return Search(self._connection)
