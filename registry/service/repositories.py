"""Adapters as repositories: the references of one, and lists of them, each with what its main shows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from registry.domain.errors import Gone, NotActive, VersionNotFound
from registry.domain.records import Adapter, Commit, Page, SearchQuery, Status, Version
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Scope
from registry.domain.statuses import READABLE_BY_PIN
from registry.service.core import UseCases
from registry.service.history import present, take
from registry.sql.catalog import Catalog


@dataclass(frozen=True, slots=True)
class References:
    """What a repository can be read by, with the commit that each shows. What is withdrawn is left out."""

    main: str | None
    aliases: Mapping[str, str]
    versions: Mapping[int, str]  # newest first
    tags: Mapping[str, str]  # those that somebody made


@dataclass(frozen=True, slots=True)
class Listed:
    """An adapter in a list, and the active version that its main shows, if any; `commit` where it was asked for."""

    adapter: Adapter
    version: Version | None
    public: bool
    commit: Commit | None = None


class Repositories(UseCases):
    """References of an adapter, and lists."""

    def check_access(self, name: AdapterName, scope: Scope = Scope.READ) -> None:
        """Refuse whoever may not do that with an adapter. Raises AdapterNotFound, NotAllowed, Gone."""
        with self.database.reading() as catalog:
            self.require(catalog, name, scope)
            present(catalog, name)

    def references(self, name: AdapterName) -> References:
        """Main, aliases and versions. Raises AdapterNotFound, Gone."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            adapter = present(catalog, name)
            main = _main(catalog, adapter)
            commits = catalog.versions.commits(name)
            tags = catalog.tags.list(name)
        active = {number: commit for number, (commit, status) in commits.items() if status is Status.ACTIVE}
        pinned = {number: commit for number, (commit, status) in commits.items() if status in READABLE_BY_PIN}
        aliases = {alias: active[number] for alias, number in adapter.aliases.items() if number in active}
        withdrawn = {commit for number, (commit, _) in commits.items() if number not in pinned}
        noted = {tag.name: tag.commit for tag in tags if tag.commit not in withdrawn}
        return References(main.id if main else None, aliases, pinned, noted)

    def repositories(
        self, *, team: str | None = None, cursor: str | None = None, limit: int = 100, commits: bool = False
    ) -> Page[Listed]:
        """Adapters by name, a page at a time; with `commits`, each with that of its main."""
        with self.database.reading() as catalog:
            page = catalog.adapters.list(team=team, cursor=cursor, limit=limit, readable=self.caller.readable)
            shown = catalog.versions.shown(adapter.name for adapter in page.items)
            pairs = [(adapter, shown.get(adapter.name)) for adapter in page.items]
            return Page(tuple(_listed(catalog, pairs, commits=commits)), page.cursor)

    def search_repositories(self, query: SearchQuery, *, commits: bool = False) -> Page[Listed]:
        """Adapters whose main shows what is searched for, that with the newest version first; `query.shown` is so."""
        with self.database.reading() as catalog:
            page = catalog.search.versions(query, readable=self.caller.readable)
            adapters = catalog.adapters.named(version.adapter for version in page.items)
            pairs = [(adapters[version.adapter], version) for version in page.items]
            return Page(tuple(_listed(catalog, pairs, commits=commits)), page.cursor)


def _listed(catalog: Catalog, pairs: Iterable[tuple[Adapter, Version | None]], *, commits: bool) -> Iterable[Listed]:
    public: dict[str, bool] = {}
    for adapter, version in pairs:
        team = adapter.name.team
        if team not in public:
            public[team] = catalog.teams.is_public(team)
        yield Listed(adapter, version, public[team], _main(catalog, adapter) if commits else None)


def _main(catalog: Catalog, adapter: Adapter) -> Commit | None:
    """The commit that main shows; None where there is none yet, or all that there is was withdrawn."""
    try:
        return take(catalog, Reference(adapter.name)).commit
    except (VersionNotFound, NotActive, Gone):
        return None
