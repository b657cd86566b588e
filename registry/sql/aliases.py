"""Aliases: compare-and-set registers with a rollback stack and an append-only history."""

import builtins
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, delete, insert, select, update
from sqlalchemy.engine import Connection, RowMapping

from registry.domain.errors import AliasNotFound, StaleSequence
from registry.domain.records import Alias, AliasMove, MoveKind
from registry.domain.reference import AdapterName
from registry.sql.adapters import Adapters
from registry.sql.inserts import insert_absent, insert_all
from registry.sql.rows import adapter_id, adapter_id_of
from registry.sql.tables.alias_moves import alias_moves, alias_stack
from registry.sql.tables.aliases import aliases
from registry.sql.tables.names import adapters, namespaces


class Aliases:
    """Queries on aliases. Names are found in any case and answered in their stored spelling."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, name: AdapterName, alias: str, *, actor: str, at: datetime) -> Alias:
        """The register, held until the commit together with its adapter; created at `seq` 0 if it is new.

        Raises AdapterNotFound.
        """
        # The adapter first, as everywhere: a move then can't cross a change of its target's status.
        Adapters(self._connection).lock(name)
        row = {
            "adapter_id": adapter_id(self._connection, name),
            "name": alias,
            "name_key": alias.lower(),
            "seq": 0,
            "actor": actor,
            "updated_at": at,
        }
        found = self._locked(name, alias)
        if found is None:
            insert_absent(self._connection, aliases, [row])
            found = self._locked(name, alias)
        assert found is not None
        return _record(found)

    def find(self, name: AdapterName, alias: str) -> Alias | None:
        """The register; None if it was never moved, or is deleted."""
        statement = _aliases(name).where(aliases.c.name_key == alias.lower(), aliases.c.number.is_not(None))
        row = self._connection.execute(statement).mappings().first()
        return None if row is None else _record(row)

    def stack(self, name: AdapterName, alias: str) -> builtins.list[int]:
        """The version numbers that were promoted, the current target last."""
        register = select(aliases.c.id).where(
            aliases.c.adapter_id == adapter_id_of(name), aliases.c.name_key == alias.lower()
        )
        return self._stack(register.scalar_subquery())

    def apply(self, move: AliasMove, stack: Sequence[int]) -> Alias:
        """Write a move: the register, its stack (current target last, empty after a delete), a line of history.

        The caller holds the lock. Raises AliasNotFound, or StaleSequence if `move.seq` is not the next one.
        """
        row = self._locked(move.adapter, move.alias)
        if row is None:
            raise AliasNotFound(str(move.adapter), move.alias)
        if move.seq != row["seq"] + 1:
            raise StaleSequence(str(move.adapter), move.alias, move.seq - 1, row["seq"])
        values = {"number": move.after, "seq": move.seq, "actor": move.actor, "updated_at": move.at}
        self._connection.execute(update(aliases).where(aliases.c.id == row["id"]).values(values))
        self._write_stack(row["id"], stack)
        self._connection.execute(insert(alias_moves), _move_row(move, row))
        return _record({**row, **values})

    def history(self, name: AdapterName, alias: str | None = None, *, limit: int = 100) -> builtins.list[AliasMove]:
        """The newest moves of an adapter's aliases, or of one, newest first."""
        statement = _moves(name)
        if alias is None:
            statement = statement.order_by(alias_moves.c.id.desc())
        else:
            statement = statement.where(aliases.c.name_key == alias.lower()).order_by(alias_moves.c.seq.desc())
        return [_move_record(row) for row in self._connection.execute(statement.limit(limit)).mappings()]

    def list(self, name: AdapterName) -> builtins.list[Alias]:
        """Every alias that points somewhere, by name."""
        statement = _aliases(name).where(aliases.c.number.is_not(None)).order_by(aliases.c.name_key)
        return [_record(row) for row in self._connection.execute(statement).mappings()]

    def pointing_at(self, name: AdapterName, number: int) -> builtins.list[str]:
        """The aliases that point to a version. Exact as long as the caller holds the adapter's lock."""
        statement = _aliases(name).where(aliases.c.number == number).order_by(aliases.c.name_key)
        return [row["name"] for row in self._connection.execute(statement).mappings()]

    def _locked(self, name: AdapterName, alias: str) -> RowMapping | None:
        statement = _aliases(name).where(aliases.c.name_key == alias.lower())
        locked = statement.with_for_update(key_share=True, of=aliases)
        return self._connection.execute(locked).mappings().first()

    def _stack(self, alias_id: Any) -> builtins.list[int]:
        statement = select(alias_stack.c.number).where(alias_stack.c.alias_id == alias_id)
        return list(self._connection.scalars(statement.order_by(alias_stack.c.position)))

    def _write_stack(self, alias_id: int, stack: Sequence[int]) -> None:
        """Keep what both stacks share from the bottom; a promotion is then one row, a rollback one deletion."""
        stored = self._stack(alias_id)
        kept = 0
        while kept < min(len(stored), len(stack)) and stored[kept] == stack[kept]:
            kept += 1
        if kept < len(stored):
            above = (alias_stack.c.alias_id == alias_id) & (alias_stack.c.position > kept)
            self._connection.execute(delete(alias_stack).where(above))
        added = enumerate(stack[kept:], start=kept + 1)
        rows = [{"alias_id": alias_id, "position": position, "number": number} for position, number in added]
        insert_all(self._connection, alias_stack, rows)


def _aliases(name: AdapterName) -> Select[Any]:
    return (
        select(aliases, namespaces.c.name.label("team"), adapters.c.name.label("adapter"))
        .join(adapters, adapters.c.id == aliases.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .where(aliases.c.adapter_id == adapter_id_of(name))
    )


def _moves(name: AdapterName) -> Select[Any]:
    return (
        select(
            alias_moves,
            aliases.c.name.label("alias"),
            namespaces.c.name.label("team"),
            adapters.c.name.label("adapter"),
        )
        .join(aliases, aliases.c.id == alias_moves.c.alias_id)
        .join(adapters, adapters.c.id == alias_moves.c.adapter_id)
        .join(namespaces, namespaces.c.id == adapters.c.namespace_id)
        .where(alias_moves.c.adapter_id == adapter_id_of(name))
    )


def _record(row: Any) -> Alias:
    return Alias(
        adapter=AdapterName(row["team"], row["adapter"]),
        name=row["name"],
        version=row["number"],
        seq=row["seq"],
        actor=row["actor"],
        updated_at=row["updated_at"],
    )


def _move_row(move: AliasMove, register: RowMapping) -> dict[str, Any]:
    return {
        "adapter_id": register["adapter_id"],
        "alias_id": register["id"],
        "seq": move.seq,
        "kind": move.kind.value,
        "before": move.before,
        "after": move.after,
        "actor": move.actor,
        "reason": move.reason,
        "at": move.at,
    }


def _move_record(row: RowMapping) -> AliasMove:
    return AliasMove(
        adapter=AdapterName(row["team"], row["adapter"]),
        alias=row["alias"],
        seq=row["seq"],
        kind=MoveKind(row["kind"]),
        before=row["before"],
        after=row["after"],
        actor=row["actor"],
        reason=row["reason"],
        at=row["at"],
    )
