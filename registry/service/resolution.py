"""The answer to a look-up: everything that a serving stack must check before it loads an adapter."""

from typing import Any

from registry.domain.documents import parent_document
from registry.domain.engines import Engine, compatibility
from registry.domain.errors import BaseConflict, RankTooHigh
from registry.domain.reference import Reference
from registry.service.aliases import base_label
from registry.service.lookup import Found, Lookup, find
from registry.sql.catalog import Catalog


class Resolution(Lookup):
    """Resolve references for those who serve adapters."""

    def resolve(
        self,
        reference: Reference,
        *,
        max_rank: int | None = None,
        base: str | None = None,
        engine: Engine | None = None,
    ) -> dict[str, Any]:
        """Everything about the version behind a reference, refused if the caller can't serve it.

        `max_rank` is the largest rank that the caller prepared for, `base` (label or sha256:<hex>) what it serves.
        With `engine` the answer says what that engine makes of the adapter. Raises RankTooHigh, BaseConflict, and what
        `find` raises.
        """
        with self.database.reading() as catalog:
            self.require(catalog, reference.adapter)
            found = find(catalog, reference)
            _check_rank(found, max_rank)
            if base is not None:
                _check_base(catalog, found, base)
            parents = self._readable(catalog, catalog.lineage.parents(found.version.adapter, found.version.number))
        return _document(found) | {
            "engine_compat": compatibility(found.version.summary, engine).document() if engine else None,
            "parents": [parent_document(parent) for parent in parents],
        }


def _check_rank(found: Found, max_rank: int | None) -> None:
    rank = found.version.summary.rank
    if max_rank is not None and rank > max_rank:
        raise RankTooHigh(found.version.reference, rank, max_rank)


def _check_base(catalog: Catalog, found: Found, wanted: str) -> None:
    version, served = found.version, catalog.bases.find(wanted)
    if served and version.base.fingerprint:
        same = served.fingerprint == version.base.fingerprint
    else:
        same = (version.base.name or "").lower() == wanted.lower()
    if not same:
        raise BaseConflict(version.reference, base_label(version.base), "the caller", wanted)


def _document(found: Found) -> dict[str, Any]:
    version, alias, summary = found.version, found.alias, found.version.summary
    return {
        "name": str(version.adapter),
        "version": version.number,
        "commit": version.commit,
        "digest": f"sha256:{version.digest}",
        "serving_name": version.serving_name,
        "alias": alias.name if alias else None,
        "seq": alias.seq if alias else None,
        "status": version.status.value,
        "base": {
            "name": version.base.name,
            "fingerprint": version.base.fingerprint,
            "evidence": version.base.evidence.value,
        },
        "rank": summary.rank,
        "alpha": summary.alpha,
        "ranks": summary.ranks,
        "targets": list(summary.targets),
        "dtype": summary.dtype,
        "variants": list(summary.variants),
        "size": version.size,
        "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in version.files],
    }
