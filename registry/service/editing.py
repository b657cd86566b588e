"""Adapters without their commits: a name before there are any, what it is described by, and its deletion."""

from collections.abc import Mapping

from registry.domain.errors import AdapterNotFound, AliasInUse, Gone, NameTaken
from registry.domain.records import Adapter, MoveKind
from registry.domain.reference import AdapterName
from registry.domain.rights import Scope
from registry.domain.texts import check_metadata, check_text
from registry.service.aliases import Mover, move_alias
from registry.service.core import UseCases
from registry.service.quotas import recount, within_quota
from registry.sql.catalog import Catalog


class Editing(UseCases):
    """Create, describe and delete adapters."""

    def create_adapter(self, name: AdapterName) -> Adapter:
        """Take a name for an adapter that has no commit yet. A push needs no such thing.

        Raises NameTaken where there is one, in whatever case; NotAllowed, TeamNotFound, QuotaExceeded.
        """
        with self.database.writing() as catalog:
            self.require_team(catalog, name.team, Scope.WRITE)
            with within_quota(catalog, name.team):
                known = catalog.adapters.find(name)
                if known is not None and known.deleted_at is None:
                    raise NameTaken(str(name), f"there is an adapter {known.name}")
                catalog.adapters.ensure(name, actor=self.actor, at=self.clock())
            catalog.events.append("adapter.created", name, {}, actor=self.actor)
            return _found(catalog, name)

    def edit_adapter(
        self,
        name: AdapterName,
        *,
        description: str | None = None,
        metadata: Mapping[str, str | None] | None = None,
    ) -> Adapter:
        """Change an adapter's description, and entries of its metadata (None takes one out); what isn't given stays.

        Raises AdapterNotFound, NotAllowed, Gone, WrongUsage.
        """
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.WRITE)
            adapter = held(catalog, name)
            text = adapter.description if description is None else check_text("the description", description)
            kept = {key: value for key, value in {**adapter.metadata, **(metadata or {})}.items() if value is not None}
            check_metadata(kept)
            changed = sorted(metadata or {}) + (["description"] if text != adapter.description else [])
            if text == adapter.description and kept == adapter.metadata:
                return adapter
            catalog.adapters.describe(adapter.name, description=text, metadata=kept, at=self.clock())
            catalog.events.append("adapter.edited", adapter.name, {"changed": changed}, actor=self.actor)
            return _found(catalog, name)

    def delete_adapter(self, name: AdapterName, *, reason: str, force: bool = False) -> Adapter:
        """Delete an adapter: its aliases lead nowhere, its versions are purged, listings have it no more.

        A tombstone stays: numbers go on where they were if somebody pushes under the name again, and history and audit
        log keep their lines. Raises AdapterNotFound, NotAllowed, Gone; AliasInUse while aliases lead there, unless
        `force`.
        """
        check_text("the reason", reason)
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.ADMIN)
            catalog.quotas.lock(name.team)  # goes before the adapter's
            adapter = held(catalog, name)
            if adapter.aliases and not force:
                raise AliasInUse(str(adapter.name), ", ".join(adapter.aliases))
            at = self.clock()
            purged = catalog.versions.purge_all(adapter.name, reason=reason)
            catalog.adapters.delete(adapter.name, at=at)
            catalog.tags.delete_all(adapter.name)
            recount(catalog, name.team)
            mover = Mover(self.actor, at, reason)
            for alias in adapter.aliases:
                move_alias(catalog, adapter.name, alias, mover=mover, plan=lambda *_: (MoveKind.DELETE, None, []))
            payload = {"reason": reason, "versions": purged, "aliases": list(adapter.aliases)}
            catalog.events.append("adapter.deleted", adapter.name, payload, actor=self.actor)
            return _found(catalog, name)


def held(catalog: Catalog, name: AdapterName) -> Adapter:
    """An adapter that is there, held until the commit. Raises AdapterNotFound, Gone."""
    adapter = _found(catalog, catalog.adapters.lock(name))
    if adapter.deleted_at is not None:
        raise Gone(str(adapter.name), "deleted")
    return adapter


def _found(catalog: Catalog, name: AdapterName) -> Adapter:
    adapter = catalog.adapters.find(name)
    if adapter is None:
        raise AdapterNotFound(str(name))
    return adapter
