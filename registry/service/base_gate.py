"""The gate for base models: a commit whose files are a whole model, each tensor of which is hashed where it lies.

A line `team/name` stands for adapters or for a base model. A base makes no version: its commit carries the fingerprint
of a registered base, which an operator may register with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from registry.domain.bases import BaseIndex
from registry.domain.errors import BaseNotFound, InvalidBase, OtherLine
from registry.domain.records import Commit, FileEntry
from registry.domain.reference import AdapterName
from registry.service.bases import BaseClaim, Draft, check_label
from registry.service.core import Progress, silent
from registry.service.inspection import check_base, inspect_base
from registry.service.integrity import Integrity
from registry.sql.catalog import Catalog

_SHOWN = 12  # digits of a fingerprint in messages


@dataclass(frozen=True, slots=True)
class WholeBase:
    """A base model that passed the gate; no `index` where the line's newest commit has the same weights."""

    fingerprint: str
    index: BaseIndex | None


Checked = Draft | WholeBase | None  # what is submitted, after every check that needs no lock: None is neither


class BaseGate(Integrity):
    """Check base models, and name them."""

    def _check_line(self, catalog: Catalog, name: AdapterName, *, base: bool) -> bool:
        """Whether a line holds a base, or is to. Raises OtherLine for a base where adapters are."""
        adapter = catalog.adapters.find(name)
        if base and adapter and adapter.latest:
            raise OtherLine(str(adapter.name), "adapters", "a base model")
        return base or (adapter is not None and adapter.holds is not None)

    def _refuse_other(self, catalog: Catalog, name: AdapterName, head: Commit | None, checked: Checked) -> None:
        """The same once the line is locked, of what was found to come."""
        self._check_line(catalog, name, base=isinstance(checked, WholeBase))
        if head is not None and head.base and not isinstance(checked, WholeBase):
            raise OtherLine(str(name), "a base model", "an adapter" if checked else "no model")

    def _whole_base(
        self, name: AdapterName, files: Sequence[FileEntry], claim: BaseClaim | None, progress: Progress = silent
    ) -> WholeBase:
        """The base that files are, hashed in the store unless the newest commit has the same weights already."""
        with self.database.reading() as catalog:
            head = catalog.commits.head(name)
        if head is not None and head.base and _weights(head.files) == _weights(files):
            check_base(self.blobs, files)
            whole = WholeBase(head.base, None)
        else:
            index = inspect_base(self.blobs, files, progress=lambda done, of: progress("checking", done, of))
            whole = WholeBase(index.fingerprint, index)
        with self.database.reading() as catalog:
            self._label_for(catalog, name, claim, whole.fingerprint)
        return whole

    def _label_for(self, catalog: Catalog, name: AdapterName, claim: BaseClaim | None, fingerprint: str) -> str | None:
        """The label that a base is to get with its files; None if it needs none.

        Operators name what is new by the claim, or else by where it lies, which is what clients of the Hub call it.
        Raises InvalidBase for files of another base than is claimed, BaseNotFound, NotAllowed.
        """
        claimed = catalog.bases.find(claim.name) if claim else None
        if claimed and claimed.fingerprint != fingerprint:
            found = f"they are sha256:{fingerprint[:_SHOWN]}, and {claim.name if claim else ''} is another base"
            raise InvalidBase("weights", found)
        if claim and claimed is None:
            self.require_operator("name", "base models")
            check_label(claim.name)
            return claim.name
        taken = catalog.bases.find(str(name))
        if self.caller.operates and claim is None and taken is None:
            return str(name)
        if catalog.bases.find(f"sha256:{fingerprint}") is None:
            raise BaseNotFound(f"sha256:{fingerprint[:_SHOWN]}")
        return None

    def _name_base(self, catalog: Catalog, name: AdapterName, claim: BaseClaim | None, whole: WholeBase) -> None:
        """Register a base under its label, if it is to get one."""
        label = self._label_for(catalog, name, claim, whole.fingerprint)
        if label is None:
            return
        index = whole.index or catalog.bases.index(whole.fingerprint)
        catalog.bases.add(label, index, actor=self.actor, at=self.clock())
        added = {"name": label, "fingerprint": whole.fingerprint}
        catalog.events.append("base.added", None, added, actor=self.actor)


def _weights(files: Sequence[FileEntry]) -> set[tuple[str, str]]:
    """What a base's fingerprint depends on."""
    return {(file.path, file.sha256) for file in files if file.path.endswith((".safetensors", ".index.json"))}
