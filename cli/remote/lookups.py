"""Looking at a registry on a server: the methods of `registry.service.lookup` and `resolution`."""

from typing import Any

from cli.remote.rooms import Room, adapter_path, selector, version_path
from registry.domain import from_documents as records
from registry.domain.engines import Engine
from registry.domain.records import Adapter, Alias, Evaluation, Lineage, Page, SearchQuery, Version
from registry.domain.reference import AdapterName, Reference
from registry.domain.spec import ModuleSpec
from registry.domain.statuses import check_found

_ANY = "any"


class Lookups(Room):
    """The reading side."""

    def find_version(self, reference: Reference) -> Version:
        """The version behind a reference, by the rules of statuses."""
        version = self.peek(reference)
        check_found(reference, version.status)
        return version

    def peek(self, reference: Reference) -> Version:
        """The version behind a reference whatever its status."""
        return self._read(records.version, self.connection.get(version_path(reference)))

    def modules(self, version: Version) -> tuple[ModuleSpec, ...]:
        """The adapted modules of a version, with the names of their tensors."""
        document = self.connection.get(f"{version_path(version)}/modules", {"tensors": True})
        return tuple(self._listed("modules", records.module, document))

    def adapters(self, *, team: str | None = None, cursor: str | None = None, limit: int = 100) -> Page[Adapter]:
        """Adapter lines by name, a page at a time."""
        document = self.connection.get("/v1/adapters", {"team": team, "cursor": cursor, "limit": limit})
        return self._read(lambda found: records.page(found, "adapters", records.adapter), document)

    def listing(
        self, *, team: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[tuple[Adapter, Version | None]]:
        """As `adapters`, each with its newest version, whatever that one's status."""
        document = self.connection.get("/v1/adapters", {"team": team, "cursor": cursor, "limit": limit})
        return self._read(lambda found: records.page(found, "adapters", records.listed), document)

    def versions(self, name: AdapterName, *, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """An adapter's versions, newest first, without their files."""
        document = self.connection.get(f"{adapter_path(name)}/versions", {"cursor": cursor, "limit": limit})
        return self._read(lambda found: records.page(found, "versions", records.version), document)

    def aliases(self, name: AdapterName) -> list[Alias]:
        """An adapter's aliases."""
        return self._listed("aliases", records.alias, self.connection.get(f"{adapter_path(name)}/aliases"))

    def search(self, query: SearchQuery) -> Page[Version]:
        """Versions that match everything in the query, newest first."""
        document = self.connection.get(
            "/v1/adapters",
            {
                "team": query.team,
                "base": query.base,
                "rank_min": query.rank_min,
                "rank_max": query.rank_max,
                "target": query.targets,
                "text": query.text,
                "metric": [f"{name}>={least!r}" for name, least in query.metrics],
                "status": query.status.value if query.status else _ANY,
                "limit": query.limit,
                "cursor": query.cursor,
            },
        )
        return self._read(lambda found: records.page(found, "versions", records.version), document)

    def evaluations(self, version: Version) -> list[Evaluation]:
        """What was measured of a version, newest first."""
        document = self.connection.get(f"{version_path(version)}/evaluations")
        return self._listed("evaluations", records.evaluation, document)

    def lineage(self, version: Version) -> Lineage:
        """How a version came to be, and its direct descendants, but for what one may not read."""
        return self._read(records.lineage, self.connection.get(f"{version_path(version)}/lineage"))

    def diff(self, left: Version, right: Version) -> dict[str, Any]:
        """What differs between two versions: facts {name: [left, right]}, files and modules."""
        pins = {"from": str(left.number), "to": right.reference}
        return self._read(dict, self.connection.get(f"{adapter_path(left.adapter)}/diff", pins))

    def resolve(
        self,
        reference: Reference,
        *,
        max_rank: int | None = None,
        base: str | None = None,
        engine: Engine | None = None,
    ) -> dict[str, Any]:
        """Everything about the version behind a reference, refused if the caller can't serve it."""
        wanted = {"ref": selector(reference), "max_rank": max_rank, "base": base, "engine": engine}
        return self._read(dict, self.connection.get(f"{adapter_path(reference.adapter)}/resolve", wanted))
