"""Base models: registering them, and settling which base a new version belongs to, with what evidence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from registry.domain.bases import BaseIndex, match
from registry.domain.errors import BaseNotFound, WrongUsage
from registry.domain.records import BaseModel, BasePlace, Evidence, VersionBase
from registry.domain.spec import AdapterSpec
from registry.service.core import UseCases
from registry.service.inspection import stored_tree
from registry.sql.catalog import Catalog

if TYPE_CHECKING:
    from registry.formats.base_files import BaseTree

_LABEL_LIMIT = 200  # characters


@dataclass(frozen=True, slots=True)
class BaseClaim:
    """What a pusher says of the base. `hashed`: they computed this fingerprint from the weights trained on."""

    name: str
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """An adapter that passed the gate: its modules matched to its base, if that is known."""

    spec: AdapterSpec
    base: VersionBase


class KnownBases(Protocol):
    """Where bases are looked up: a catalog, or a server that has one."""

    def find(self, name: str, /) -> BaseModel | None:
        """A base by label, or by sha256:<hex>."""

    def index(self, fingerprint: str, /) -> BaseIndex:
        """The tensor index of a base that was found."""


def settle_base(bases: KnownBases, spec: AdapterSpec, claim: BaseClaim | None) -> Draft:
    """Find the base that is claimed, or that the configuration names, and match every module to it.

    The draft has `base_tensor` filled in, and the base with its evidence: exact when the pusher hashed the
    weights, structural when names and shapes fit the registered index, declared when only a name is known.
    Raises BaseNotFound for a claim that is not registered, BaseMismatch when the adapter doesn't fit.
    """
    named = claim.name if claim else spec.summary.base_name
    base = bases.find(named) if named else None
    if base is None:
        if claim:
            raise BaseNotFound(claim.name)
        return Draft(spec, VersionBase(named, None, Evidence.DECLARED))
    label = base.names[0] if base.names else None
    matched = match(spec, bases.index(base.fingerprint), base=label or f"sha256:{base.fingerprint[:12]}")
    evidence = Evidence.EXACT if claim and claim.hashed else Evidence.STRUCTURAL
    return Draft(matched, VersionBase(label, base.fingerprint, evidence))


class Bases(UseCases):
    """Register, list and link base models."""

    def add_base(self, label: str, index: BaseIndex) -> BaseModel:
        """Register a base's tensor index under a label; the same base twice is one. Raises NameTaken."""
        self.require_operator("name", "base models")
        check_label(label)
        with self.database.writing() as catalog:
            base = catalog.bases.add(label, index, actor=self.actor, at=self.clock())
            added = {"name": label, "fingerprint": base.fingerprint}
            catalog.events.append("base.added", None, added, actor=self.actor)
        return base

    def base(self, name: str) -> BaseModel:
        """A base by label, or by sha256:<hex>. Raises BaseNotFound."""
        with self.database.reading() as catalog:
            return _known(catalog, name)

    def base_index(self, base: BaseModel) -> BaseIndex:
        """The tensor index of a base."""
        with self.database.reading() as catalog:
            return catalog.bases.index(base.fingerprint)

    def bases(self) -> list[BaseModel]:
        """Every registered base."""
        with self.database.reading() as catalog:
            return catalog.bases.list()

    def base_places(self, base: BaseModel) -> list[BasePlace]:
        """Where the files of a base are published, as far as the caller may see it."""
        with self.database.reading() as catalog:
            return catalog.bases.places(base.fingerprint, readable=self.caller.readable)

    def base_files(self, fingerprint: str) -> "BaseTree | None":
        """The files of a base, where it is published and the caller may read it."""
        with self.database.reading() as catalog:
            for place in catalog.bases.places(fingerprint, readable=self.caller.readable)[:1]:
                commit = catalog.commits.find(place.name, place.commit)
                return stored_tree(self.blobs, commit.files) if commit else None
        return None

    def link_base(self, name: str, *, quantised_of: str | None = None, succeeds: str | None = None) -> BaseModel:
        """Record that a base is a quantised copy of another, or replaces another. Raises BaseNotFound."""
        self.require_operator("link", "base models")
        if not quantised_of and not succeeds:
            raise WrongUsage("a link needs a base that it is a copy of, or one that it succeeds")
        with self.database.writing() as catalog:
            base = _known(catalog, name)
            links = {
                key: _known(catalog, other).fingerprint
                for key, other in {"quantised_of": quantised_of, "succeeds": succeeds}.items()
                if other
            }
            _refuse_self_link(base, links)
            linked = catalog.bases.link(base.fingerprint, **links)
            linkage = {"fingerprint": base.fingerprint, **links}
            catalog.events.append("base.linked", None, linkage, actor=self.actor)
        return linked


def _known(catalog: Catalog, name: str) -> BaseModel:
    base = catalog.bases.find(name)
    if base is None:
        raise BaseNotFound(name)
    return base


def _refuse_self_link(base: BaseModel, links: Mapping[str, str]) -> None:
    if base.fingerprint in links.values():
        raise WrongUsage("a base can't be linked to itself")


def check_label(label: str) -> None:
    """Raises WrongUsage for a text that can't name a base."""
    usable = label.isprintable() and label == label.strip() and not label.startswith("sha256:")
    if not label or len(label) > _LABEL_LIMIT or not usable:
        raise WrongUsage(f"{label[:80]!r} can't name a base: 1 to {_LABEL_LIMIT} printable characters, not sha256:…")
