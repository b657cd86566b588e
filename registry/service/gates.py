"""Gates: setting them, approving versions, and the check that every promotion goes through."""

from collections.abc import Sequence

from registry.domain.errors import AdapterNotFound, GateClosed, NotAllowed, WrongUsage
from registry.domain.gates import Approval, Gate, Requirement, unmet
from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference, check_alias
from registry.domain.rights import Scope
from registry.domain.texts import check_text
from registry.service.core import UseCases
from registry.service.lookup import find
from registry.sql.catalog import Catalog

_MOST = 100  # requirements, and approvals asked for


def check_gate(catalog: Catalog, version: Version, alias: str, *, requester: str, override: bool) -> tuple[str, ...]:
    """What a version lacks to pass the gate before an alias: overridden, or refused. Raises GateClosed."""
    gate = catalog.gates.find(version.adapter, alias)
    if gate is None:
        return ()
    reasons = unmet(
        gate,
        catalog.evaluations.list(version.adapter, version.number),
        catalog.gates.approvals(version.adapter, version.number, alias),
        author=version.author,
        requester=requester,
    )
    if reasons and not override:
        raise GateClosed(version.reference, gate.alias, "; ".join(reasons))
    return reasons


class Gates(UseCases):
    """Set, show and remove gates; approve versions."""

    def set_gate(
        self, name: AdapterName, alias: str, requirements: Sequence[Requirement], *, approvals: int = 0
    ) -> Gate:
        """Put a gate before an alias, in place of an earlier one. Raises AdapterNotFound, NotAllowed, WrongUsage."""
        check_alias(alias)
        if not requirements and not approvals:
            raise WrongUsage("a gate needs a requirement or approvals")
        if len(requirements) > _MOST or not 0 <= approvals <= _MOST:
            raise WrongUsage(f"a gate has at most {_MOST} requirements and {_MOST} approvals")
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.ADMIN)
            stored = catalog.adapters.lock(name)
            gate = Gate(stored, alias, tuple(requirements), approvals, self.actor, self.clock())
            catalog.gates.set(gate)
            payload = {"alias": alias, "requirements": [str(line) for line in requirements], "approvals": approvals}
            catalog.events.append("gate.set", stored, payload, actor=self.actor)
        return gate

    def remove_gate(self, name: AdapterName, alias: str) -> None:
        """Take the gate before an alias away. Raises AdapterNotFound, NotAllowed."""
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.ADMIN)
            stored = catalog.adapters.lock(name)
            catalog.gates.remove(stored, alias)
            catalog.events.append("gate.removed", stored, {"alias": alias}, actor=self.actor)

    def gates(self, name: AdapterName) -> list[Gate]:
        """An adapter's gates. Raises AdapterNotFound."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            if catalog.adapters.find(name) is None:
                raise AdapterNotFound(str(name))
            return catalog.gates.list(name)

    def approve(self, reference: Reference, alias: str, *, comment: str = "") -> Approval:
        """Say that a version may become what an alias points at. Its author can't. Raises NotAllowed."""
        check_alias(alias)
        check_text("the comment", comment)
        with self.database.writing() as catalog:
            self.require(catalog, reference.adapter, Scope.PROMOTE)
            version = find(catalog, reference).version
            if version.author.lower() == self.actor.lower():
                raise NotAllowed(self.actor, "approve", f"{version.reference}, being its author")
            approval = Approval(version.adapter, version.number, alias, self.actor, comment, self.clock())
            if catalog.gates.approve(approval):
                payload = {"version": version.number, "alias": alias, "comment": comment}
                catalog.events.append("version.approved", version.adapter, payload, actor=self.actor)
        return approval
