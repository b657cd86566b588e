"""Purging: leaked data, a customer who leaves. The bytes go at once, and not after a grace.

A purged version answers 410 and keeps its line: its number, its digest, its history and the reason stay. Its team has
its bytes no more, unless another version of the team holds them; bytes that nobody else has go from the store and the
staging area. What somebody else is about to refer to at this very moment is left to the next collection.
"""

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from registry.domain.errors import AliasInUse, Gone
from registry.domain.records import Status
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Scope
from registry.domain.texts import check_text
from registry.service.collecting import HELD, Collecting
from registry.service.editing import Editing
from registry.service.lookup import look
from registry.service.quotas import recount
from registry.sql.catalog import Catalog

_ATTEMPTS = 20
_PAUSE = 0.1  # seconds


@dataclass(frozen=True, slots=True)
class Purge:
    """What was purged: `subject`, and the bytes that are gone. `kept` of its contents somebody else has, or holds."""

    subject: str
    blobs: int
    bytes: int
    kept: int


class Purging(Editing, Collecting):
    """Purge."""

    def purge(self, reference: Reference, *, reason: str, force: bool = False) -> Purge:
        """Purge the version behind an exact pin; a second time, what was left of its bytes.

        Raises NotAllowed, AdapterNotFound, VersionNotFound; AliasInUse when an alias points there, unless `force`.
        """
        check_text("the reason", reason)
        with self.database.writing() as catalog:
            self.require(catalog, reference.adapter, Scope.ADMIN)
            catalog.quotas.lock(reference.adapter.team)  # goes before the adapter's
            catalog.adapters.lock(reference.adapter)
            version = look(catalog, reference).version
            aliases = catalog.aliases.pointing_at(version.adapter, version.number)
            if aliases and not force:
                raise AliasInUse(version.reference, ", ".join(aliases))
            if version.status is not Status.PURGED:
                catalog.versions.set_status(version.adapter, version.number, status=Status.PURGED, reason=reason)
            contents = catalog.collection.contents(version.adapter, version.number)
            taken, uploads = self._take(catalog, version.adapter, contents)
            payload = {"version": version.number, "status": Status.PURGED.value, "reason": reason}
            catalog.events.append("version.status", version.adapter, payload, actor=self.actor)
        return self._purged(version.reference, contents, taken, uploads=uploads)

    def purge_adapter(self, name: AdapterName, *, reason: str, force: bool = False) -> Purge:
        """Delete an adapter and purge all that it ever had; also one that was deleted before.

        Raises what `delete_adapter` raises.
        """
        with suppress(Gone):
            self.delete_adapter(name, reason=reason, force=force)
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.ADMIN)
            catalog.quotas.lock(name.team)
            catalog.adapters.lock(name)
            contents = catalog.collection.contents(name)
            taken, uploads = self._take(catalog, name, contents)
        return self._purged(str(name), contents, taken, uploads=uploads)

    def _take(self, catalog: Catalog, name: AdapterName, contents: Collection[str]) -> tuple[set[str], list[str]]:
        """Take contents from an adapter's team: which went, and the ids of uploads that are forgotten."""
        recount(catalog, name.team)
        taken = catalog.collection.forfeit(name, contents)
        return taken, catalog.collection.forget_uploads(name.team, taken)

    def _purged(self, subject: str, contents: Collection[str], taken: set[str], *, uploads: list[str]) -> Purge:
        for upload in uploads:
            self.blobs.discard(upload)
        removed: dict[str, int] = {}
        for attempt in range(_ATTEMPTS):  # a collector, or a push, may hold some for a moment
            if attempt:
                time.sleep(_PAUSE)
            removed |= self._remove_at_once(taken - removed.keys(), subject)
            with self.database.reading() as catalog:
                left = taken - catalog.collection.unknown(taken)
                if not left - catalog.collection.possessed(left) - catalog.collection.referenced(left):
                    break
        return Purge(subject, len(removed), sum(removed.values()), len(contents) - len(taken) + len(left))

    def _remove_at_once(self, digests: Collection[str], subject: str) -> dict[str, int]:
        """Remove those that nobody has and nothing refers to; which they were."""
        with self.database.writing() as catalog:
            held = catalog.collection.lock(digests)
            used = catalog.collection.possessed(held) | catalog.collection.referenced(held)
            free = {sha256: size for sha256, size in held.items() if sha256 not in used}
            removed = self._delete(free, time.monotonic() + HELD)
            self._forget_removed(catalog, removed, purged=subject)
        return removed
