"""Gates and approvals in the catalog."""

import builtins
from typing import Any

from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Connection

from registry.domain.gates import Approval, Gate, Requirement, requirement_document
from registry.domain.reference import AdapterName
from registry.sql.inserts import insert_absent
from registry.sql.tables.gates import approvals, gates
from registry.sql.tables.names import adapters, namespaces


class Gates:
    """Queries on gates."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def find(self, name: AdapterName, alias: str) -> Gate | None:
        """The gate before an alias, whatever the case of its name."""
        row = self._connection.execute(_gates(name).where(gates.c.alias_key == alias.lower())).first()
        return None if row is None else _record(row)

    def list(self, name: AdapterName) -> builtins.list[Gate]:
        """An adapter's gates by alias."""
        return [_record(row) for row in self._connection.execute(_gates(name).order_by(gates.c.alias_key))]

    def set(self, gate: Gate) -> None:
        """Put a gate before an alias, in place of the one that is there. The adapter must be locked."""
        self.remove(gate.adapter, gate.alias)
        row = {
            "adapter_id": self._adapter_id(gate.adapter),
            "alias_key": gate.alias.lower(),
            "alias": gate.alias,
            "requirements": [requirement_document(line) for line in gate.requirements],
            "approvals": gate.approvals,
            "actor": gate.actor,
            "at": gate.at,
        }
        self._connection.execute(insert(gates), row)

    def remove(self, name: AdapterName, alias: str) -> None:
        """Take a gate away; nothing happens if there is none."""
        mine = (gates.c.adapter_id == self._adapter_id(name)) & (gates.c.alias_key == alias.lower())
        self._connection.execute(delete(gates).where(mine))

    def approve(self, approval: Approval) -> bool:
        """Record an approval; False if that principal approved before."""
        row = {
            "adapter_id": self._adapter_id(approval.adapter),
            "number": approval.version,
            "alias_key": approval.alias.lower(),
            "principal_key": approval.principal.lower(),
            "principal": approval.principal,
            "comment": approval.comment,
            "at": approval.at,
        }
        return bool(insert_absent(self._connection, approvals, [row]))

    def approvals(self, name: AdapterName, number: int, alias: str) -> builtins.list[Approval]:
        """Who approved a version for an alias, by time."""
        statement = select(approvals).where(
            approvals.c.adapter_id == self._adapter_id(name),
            approvals.c.number == number,
            approvals.c.alias_key == alias.lower(),
        )
        rows = self._connection.execute(statement.order_by(approvals.c.at, approvals.c.principal_key))
        return [Approval(name, number, alias, row.principal, row.comment, row.at) for row in rows]

    def _adapter_id(self, name: AdapterName) -> int | None:
        return self._connection.scalar(select(adapters.c.id).where(adapters.c.name_key == name.key))


def _gates(name: AdapterName) -> Any:
    return (
        select(gates, namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
        .join(adapters, adapters.c.id == gates.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .where(adapters.c.name_key == name.key)
    )


def _record(row: Any) -> Gate:
    return Gate(
        adapter=AdapterName(row.team, row.adapter),
        alias=row.alias,
        requirements=tuple(Requirement(**line) for line in row.requirements),
        approvals=row.approvals,
        actor=row.actor,
        at=row.at,
    )
