"""Finding things: a reference's version, its modules, listings, search, lineage, differences."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from registry.domain.errors import AdapterNotFound, AliasNotFound, Damaged, Gone, VersionNotFound
from registry.domain.records import (
    Adapter,
    Alias,
    Evaluation,
    Lineage,
    Page,
    Parent,
    SearchQuery,
    Version,
)
from registry.domain.reference import AdapterName, Reference, Selector
from registry.domain.rights import Scope
from registry.domain.spec import ModuleSpec
from registry.domain.statuses import READABLE_BY_PIN, check_found
from registry.service.core import UseCases
from registry.sql.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Found:
    """A version, and the alias that led to it."""

    version: Version
    alias: Alias | None


def find(catalog: Catalog, reference: Reference) -> Found:
    """The version behind a reference, by the rules of statuses.

    Without a pin (main or an alias) only an active version is found; an exact pin finds a yanked one too.
    Raises AdapterNotFound, AliasNotFound, VersionNotFound, NotActive, Gone, Damaged.
    """
    found = look(catalog, reference)
    check_found(reference, found.version.status)
    check_whole(found.version)
    return found


def check_whole(version: Version) -> None:
    """Refuse a version whose stored bytes are known to be missing or changed. Raises Damaged."""
    if version.damage is not None:
        raise Damaged(version.reference, version.damage)


def look(catalog: Catalog, reference: Reference) -> Found:
    """The version behind a reference, whatever its status. Raises AdapterNotFound, AliasNotFound, VersionNotFound."""
    if reference.selector is Selector.ALIAS:
        pair = catalog.versions.find_alias(reference)
        if pair:
            return Found(*pair)
    elif version := catalog.versions.find(reference):
        return Found(version, None)
    adapter = catalog.adapters.find(reference.adapter)
    if adapter is None:
        raise AdapterNotFound(str(reference.adapter))
    if reference.selector is Selector.ALIAS:
        raise AliasNotFound(str(adapter.name), reference.value)
    _, at, selector = str(reference).partition("@")
    raise VersionNotFound(str(adapter.name), selector if at else "active version")


class Lookup(UseCases):
    """The reading side of the registry."""

    def find_version(self, reference: Reference) -> Version:
        """The version behind a reference; see `find` for what is refused."""
        return self.find(reference).version

    def find(self, reference: Reference) -> Found:
        """The version behind a reference and the alias that named it, in one snapshot."""
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter)
            return find(catalog, reference)

    def peek(self, reference: Reference) -> Version:
        """The version behind a reference whatever its status, for showing it and for changing its status."""
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter)
            return look(catalog, reference).version

    def modules(self, version: Version) -> tuple[ModuleSpec, ...]:
        """The adapted modules of a version."""
        with self.database.reading() as catalog:
            return catalog.versions.modules(version.adapter, version.number)

    def adapter(self, name: AdapterName) -> Adapter:
        """One adapter line. Raises AdapterNotFound; Gone for one that was deleted."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            adapter = catalog.adapters.find(name)
        if adapter is None:
            raise AdapterNotFound(str(name))
        if adapter.deleted_at is not None:
            raise Gone(str(adapter.name), "deleted")
        return adapter

    def adapters(self, *, team: str | None = None, cursor: str | None = None, limit: int = 100) -> Page[Adapter]:
        """Adapter lines by name, a page at a time."""
        with self.database.reading() as catalog:
            return catalog.adapters.list(team=team, cursor=cursor, limit=limit, readable=self.caller.readable)

    def listing(
        self, *, team: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Page[tuple[Adapter, Version | None]]:
        """As `adapters`, each with its newest version, whatever that one's status; of one snapshot."""
        with self.database.reading() as catalog:
            readable = self.caller.readable
            page = catalog.adapters.list(team=team, cursor=cursor, limit=limit, readable=readable)
            newest = catalog.versions.newest(adapter.name for adapter in page.items)
        return Page(tuple((adapter, newest.get(adapter.name)) for adapter in page.items), page.cursor)

    def versions(self, name: AdapterName, *, cursor: str | None = None, limit: int = 100) -> Page[Version]:
        """An adapter's versions, newest first, without their files."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            return catalog.versions.list(name, cursor=cursor, limit=limit)

    def aliases(self, name: AdapterName) -> list[Alias]:
        """An adapter's aliases."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            return catalog.aliases.list(name)

    def search(self, query: SearchQuery) -> Page[Version]:
        """Versions that match everything in the query, newest first."""
        with self.database.reading() as catalog:
            return catalog.search.versions(query, readable=self.caller.readable)

    def evaluations(self, version: Version) -> list[Evaluation]:
        """What was measured of a version, newest first."""
        with self.database.reading() as catalog:
            return catalog.evaluations.list(version.adapter, version.number)

    def lineage(self, version: Version) -> Lineage:
        """How a version came to be, and its direct descendants, but for what the caller may not read."""
        with self.database.reading() as catalog:
            lineage = catalog.lineage.of(version.adapter, version.number)
            return self._redacted(catalog, lineage)

    def _redacted(self, catalog: Catalog, lineage: Lineage) -> Lineage:
        """Without the names of parents that the caller may not read, and without the recipes that tell them."""
        lines = []
        for line in lineage.provenance:
            parents = self._readable(catalog, line.parents)
            recipe = line.recipe if len(parents) == len(line.parents) else None
            lines.append(replace(line, parents=parents, recipe=recipe))
        return replace(lineage, provenance=tuple(lines), descendants=self._readable(catalog, lineage.descendants))

    def _readable(self, catalog: Catalog, parents: Iterable[Parent]) -> tuple[Parent, ...]:
        return tuple(parent for parent in parents if self._may(catalog, Scope.READ, parent.adapter.team))

    def version_of_recipe(self, name: AdapterName, recipe_digest: str) -> Version | None:
        """The readable version that a recipe already gave for this adapter, or None."""
        with self.database.reading() as catalog:
            self.require_team(catalog, name.team, Scope.READ)
            number = catalog.lineage.version_of(name, recipe_digest)
            if number is None:
                return None
            version = catalog.versions.find(Reference(name, Selector.VERSION, str(number)))
        return version if version and version.status in READABLE_BY_PIN else None

    def diff(self, left: Version, right: Version) -> dict[str, Any]:
        """What differs between two versions: facts {name: [left, right]}, files and modules."""
        return {
            "left": left.reference,
            "right": right.reference,
            "facts": _changed(_facts(left), _facts(right)),
            "files": _changed({f.path: f.sha256 for f in left.files}, {f.path: f.sha256 for f in right.files}),
            "modules": _changed(self._module_facts(left), self._module_facts(right)),
        }

    def _module_facts(self, version: Version) -> dict[str, Any]:
        return {m.name: {"kind": m.kind, "rank": m.rank, "scaling": m.scaling} for m in self.modules(version)}


def _facts(version: Version) -> dict[str, Any]:
    summary = version.summary
    return {
        "base": version.base.name,
        "fingerprint": version.base.fingerprint,
        "rank": summary.rank,
        "alpha": summary.alpha,
        "targets": list(summary.targets),
        "variants": list(summary.variants),
        "dtype": summary.dtype,
        "parameters": summary.parameters,
        "size": version.size,
        "status": version.status.value,
    }


def _changed(left: dict[str, Any], right: dict[str, Any]) -> dict[str, list[Any]]:
    keys = sorted(left.keys() | right.keys())
    return {key: [left.get(key), right.get(key)] for key in keys if left.get(key) != right.get(key)}
