"""Gates on a server: the methods of `registry.service.gates`."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cli.remote.lookups import Lookups
from cli.remote.rooms import adapter_path, part
from registry.domain.gates import Approval, Gate, Requirement, requirement_document
from registry.domain.reference import AdapterName, Reference


class Gates(Lookups):
    """Set, show and remove gates; approve versions."""

    def set_gate(
        self, name: AdapterName, alias: str, requirements: Sequence[Requirement], *, approvals: int = 0
    ) -> Gate:
        """Put a gate before an alias, in place of an earlier one."""
        wanted = {"requirements": [requirement_document(line) for line in requirements], "approvals": approvals}
        return self._read(_gate, self.connection.request("PUT", f"{_alias(name, alias)}/gate", json=wanted).document)

    def remove_gate(self, name: AdapterName, alias: str) -> None:
        """Take the gate before an alias away."""
        self.connection.request("DELETE", f"{_alias(name, alias)}/gate")

    def gates(self, name: AdapterName) -> list[Gate]:
        """An adapter's gates."""
        return self._listed("gates", _gate, self.connection.get(f"{adapter_path(name)}/gates"))

    def approve(self, reference: Reference, alias: str, *, comment: str = "") -> Approval:
        """Say that a version may become what an alias points at."""
        version = self.find_version(reference)
        wanted = {"version": version.number, "comment": comment}
        answer = self.connection.request("POST", f"{_alias(version.adapter, alias)}/approvals", json=wanted)
        return self._read(_approval, answer.document)


def _alias(name: AdapterName, alias: str) -> str:
    return f"{adapter_path(name)}/aliases/{part(alias)}"


def _gate(document: Mapping[str, Any]) -> Gate:
    return Gate(
        adapter=AdapterName.parse(document["name"]),
        alias=str(document["alias"]),
        requirements=tuple(Requirement(**line) for line in document["requirements"]),
        approvals=int(document["approvals"]),
        actor=str(document["actor"]),
        at=datetime.fromisoformat(document["at"]),
    )


def _approval(document: Mapping[str, Any]) -> Approval:
    return Approval(
        adapter=AdapterName.parse(document["name"]),
        version=int(document["version"]),
        alias=str(document["alias"]),
        principal=str(document["principal"]),
        comment=str(document["comment"]),
        at=datetime.fromisoformat(document["at"]),
    )
