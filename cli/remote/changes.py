"""Changing what is on a server: the methods of `registry.service.aliases`, `stewardship` and `bases`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from cli.remote.lookups import Lookups
from cli.remote.rooms import adapter_path, part, version_path
from registry.domain import from_documents as records
from registry.domain.examples import means, packed, unpacked
from registry.domain.metrics import check_metrics
from registry.domain.records import AliasMove, BaseModel, BasePlace, Evaluation, Status, Version
from registry.domain.reference import AdapterName, Reference

if TYPE_CHECKING:
    from registry.domain.bases import BaseIndex

_IF_ANY = "*"


class Changes(Lookups):
    """Promote, roll back, evaluate, yank, name bases."""

    def promote(
        self,
        reference: Reference,
        alias: str,
        *,
        expected: int | None = None,
        reason: str | None = None,
        across_bases: bool = False,
        override_gate: bool = False,
    ) -> AliasMove:
        """Point an alias at the version behind a reference."""
        version = self.find_version(reference)
        wanted = {
            "version": version.number,
            "reason": reason,
            "across_bases": across_bases,
            "override_gate": override_gate,
        }
        path = f"{adapter_path(version.adapter)}/aliases/{part(alias)}"
        answer = self.connection.request("PUT", path, json=wanted, headers=_condition(expected))
        return self._read(records.move, answer.document)

    def rollback(
        self,
        name: AdapterName,
        alias: str,
        *,
        to: Reference | None = None,
        expected: int | None = None,
        reason: str | None = None,
    ) -> AliasMove:
        """Go back to the target before the present one, or to `to`."""
        path = f"{adapter_path(name)}/aliases/{part(alias)}/rollback"
        wanted = {"to": str(to) if to else None, "reason": reason}
        answer = self.connection.request("POST", path, json=wanted, headers=_condition(expected))
        return self._read(records.move, answer.document)

    def history(self, name: AdapterName, alias: str | None = None, *, limit: int = 100) -> list[AliasMove]:
        """An alias's moves (or all of an adapter's), newest first."""
        path = f"{adapter_path(name)}/aliases/{part(alias)}/history" if alias else f"{adapter_path(name)}/history"
        return self._listed("moves", records.move, self.connection.get(path, {"limit": limit}))

    def evaluate(
        self,
        reference: Reference,
        metrics: Mapping[str, float],
        *,
        dataset: str | None = None,
        dataset_sha256: str | None = None,
        examples: Sequence[Any] = (),
    ) -> Evaluation:
        """Record what was measured of a version."""
        kept = means(unpacked(packed(examples)))
        check_metrics({**kept, **metrics}, dataset)  # JSON has no NaN to tell the server of
        wanted = {
            "metrics": dict(metrics),
            "dataset": dataset,
            "dataset_sha256": dataset_sha256,
            "examples": list(examples),
        }
        answer = self.connection.request("POST", f"{version_path(reference)}/evaluations", json=wanted)
        return self._read(records.evaluation, answer.document)

    def set_status(self, reference: Reference, status: Status, *, reason: str, force: bool = False) -> Version:
        """Yank, revoke or release the version behind an exact pin."""
        wanted = {"status": status.value, "reason": reason, "force": force}
        return self._read(
            records.version, self.connection.request("PATCH", version_path(reference), json=wanted).document
        )

    # -- bases --------------------------------------------------------------------------------------------------------

    def add_base(self, label: str, index: "BaseIndex") -> BaseModel:
        """Register a base's tensor index under a label."""
        wanted = {"name": label, "index": index.to_document()}
        return self._read(records.base, self.connection.request("POST", "/v1/bases", json=wanted).document)

    def base(self, name: str) -> BaseModel:
        """A base by label, or by sha256:<hex>."""
        return self._read(records.base, self._base(name))

    def base_places(self, base: BaseModel) -> list[BasePlace]:
        """Where the files of a base are published, as far as the caller may see it."""
        return self._listed("published", records.base_place, self._base(f"sha256:{base.fingerprint}"))

    def _base(self, name: str) -> Any:
        return self.connection.get(f"/v1/bases/{quote(name, safe='/:')}")

    def bases(self) -> list[BaseModel]:
        """Every registered base."""
        return self._listed("bases", records.base, self.connection.get("/v1/bases"))

    def base_index(self, base: BaseModel) -> "BaseIndex":
        """The tensor index of a base."""
        return self.index_of(base.fingerprint)

    def index_of(self, fingerprint: str) -> "BaseIndex":
        """The tensor index of the base with this fingerprint."""
        from registry.domain.bases import BaseIndex  # lazy: start-up time

        found = self.connection.get("/v1/bases/index", {"name": f"sha256:{fingerprint}"})
        return self._read(BaseIndex.from_document, found)

    def link_base(self, name: str, *, quantised_of: str | None = None, succeeds: str | None = None) -> BaseModel:
        """Record that a base is a quantised copy of another, or replaces another."""
        wanted = {"quantised_of": quantised_of, "succeeds": succeeds}
        answer = self.connection.request("POST", "/v1/bases/links", query={"name": name}, json=wanted)
        return self._read(records.base, answer.document)


def _condition(expected: int | None) -> dict[str, str]:
    if expected is None:
        return {"If-Match": _IF_ANY}
    return {"If-Match": f'"{expected}"'} if expected else {"If-None-Match": "*"}
