"""Aliases: promotion, rollback and history. Every move, whoever asks for it, goes through `move_alias`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from registry.domain.errors import (
    AdapterNotFound,
    AliasNotFound,
    BaseConflict,
    NoRollbackTarget,
    NotActive,
    StaleSequence,
    VersionNotFound,
    WrongUsage,
)
from registry.domain.records import Alias, AliasMove, MoveKind, Status, Version, VersionBase
from registry.domain.reference import AdapterName, Reference, Selector, check_alias
from registry.domain.rights import Scope
from registry.domain.texts import check_text
from registry.service.core import UseCases
from registry.service.gates import check_gate
from registry.service.lookup import find
from registry.sql.catalog import Catalog

Planned = tuple[MoveKind, int | None, list[int]]  # kind, new target, new stack (current target last)


@dataclass(frozen=True, slots=True)
class Mover:
    """Who moves an alias, when, why, and at which sequence they last saw it (0: not there yet; None: don't care)."""

    actor: str
    at: datetime
    reason: str | None = None
    expected: int | None = None
    override: bool = False  # pass gates that are closed


def move_alias(
    catalog: Catalog,
    name: AdapterName,
    alias: str,
    *,
    mover: Mover,
    plan: Callable[[Alias, list[int]], Planned],
    overridden: tuple[str, ...] = (),
) -> AliasMove:
    """Move an alias under its row's lock: compare the sequence, let `plan` decide, append to the history.

    Raises StaleSequence if somebody else moved it since `mover.expected`.
    """
    check_text("the reason", mover.reason or "")
    register = catalog.aliases.lock(name, alias, actor=mover.actor, at=mover.at)
    if mover.expected is not None and not _is_expected(register, mover.expected):
        raise StaleSequence(str(name), alias, mover.expected, register.seq)
    kind, target, stack = plan(register, catalog.aliases.stack(name, alias))
    move = AliasMove(
        name, register.name, register.seq + 1, kind, register.version, target, mover.actor, mover.reason, mover.at
    )
    catalog.aliases.apply(move, stack)
    catalog.events.append(
        "alias.moved",
        name,
        {
            "alias": move.alias,
            "seq": move.seq,
            "kind": kind.value,
            "before": move.before,
            "after": move.after,
            "overridden": list(overridden),
        },
        actor=mover.actor,
    )
    return move


def _is_expected(register: Alias, expected: int) -> bool:
    # 0 stands for "not there": also true of a deleted alias, whose counter lives on.
    return register.seq == expected or (expected == 0 and register.version is None)


def promote(catalog: Catalog, version: Version, alias: str, *, mover: Mover, across_bases: bool = False) -> AliasMove:
    """Point an alias at an active version.

    Raises NotActive, StaleSequence, GateClosed, and BaseConflict when the target has another base than the present one.
    """
    check_alias(alias)
    if version.status is not Status.ACTIVE:
        raise NotActive(version.reference, version.status.value)
    overridden = check_gate(catalog, version, alias, requester=mover.actor, override=mover.override)

    def plan(register: Alias, stack: list[int]) -> Planned:
        if register.version is not None and not across_bases:
            _same_base(_version(catalog, version.adapter, register.version), version)
        moved = stack if stack[-1:] == [version.number] else [*stack, version.number]
        return MoveKind.PROMOTE, version.number, moved

    return move_alias(catalog, version.adapter, alias, mover=mover, plan=plan, overridden=overridden)


def _version(catalog: Catalog, name: AdapterName, number: int) -> Version:
    version = catalog.versions.find(Reference(name, Selector.VERSION, str(number)))
    if version is None:
        raise VersionNotFound(str(name), f"v{number}")
    return version


def _same_base(before: Version, after: Version) -> None:
    if before.base.fingerprint == after.base.fingerprint and before.base.fingerprint:
        return
    if not (before.base.fingerprint and after.base.fingerprint) and before.base.name == after.base.name:
        return  # one of them is known by name only
    raise BaseConflict(before.reference, base_label(before.base), after.reference, base_label(after.base))


def base_label(base: VersionBase) -> str:
    """How a base is called in messages."""
    return base.name or (f"sha256:{base.fingerprint[:12]}" if base.fingerprint else "an unknown base")


class Aliases(UseCases):
    """Promote, roll back, delete, and the history of it all."""

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
        """Point an alias at the version behind a reference; see `promote` for what is refused.

        `override_gate` passes a closed gate; it takes an admin and a reason, and the audit log says what was lacking.
        """
        if override_gate and not reason:
            raise WrongUsage("overriding a gate takes a reason")
        mover = Mover(self.actor, self.clock(), reason, expected, override_gate)
        with self.database.writing() as catalog:
            self.require(catalog, reference.adapter, Scope.ADMIN if override_gate else Scope.PROMOTE)
            version = find(catalog, reference).version
            return promote(catalog, version, alias, mover=mover, across_bases=across_bases)

    def rollback(
        self,
        name: AdapterName,
        alias: str,
        *,
        to: Reference | None = None,
        expected: int | None = None,
        reason: str | None = None,
    ) -> AliasMove:
        """Go back to the target before the present one (or to `to`, an earlier target), skipping inactive ones.

        Raises AliasNotFound, StaleSequence, NoRollbackTarget.
        """
        mover = Mover(self.actor, self.clock(), reason, expected)
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.PROMOTE)
            self._existing(catalog, name, alias)
            wanted = find(catalog, to).version.number if to else None

            def plan(register: Alias, stack: list[int]) -> Planned:
                kept = _roll_back(catalog, register, stack, wanted=wanted)
                return MoveKind.ROLLBACK, kept[-1], kept

            return move_alias(catalog, name, alias, mover=mover, plan=plan)

    def delete_alias(
        self, name: AdapterName, alias: str, *, expected: int | None = None, reason: str | None = None
    ) -> AliasMove:
        """Delete an alias; its counter and history stay. Raises AliasNotFound, StaleSequence."""
        mover = Mover(self.actor, self.clock(), reason, expected)
        with self.database.writing() as catalog:
            self.require(catalog, name, Scope.PROMOTE)
            self._existing(catalog, name, alias)
            return move_alias(catalog, name, alias, mover=mover, plan=lambda *_: (MoveKind.DELETE, None, []))

    def history(self, name: AdapterName, alias: str | None = None, *, limit: int = 100) -> list[AliasMove]:
        """An alias's moves (or all of an adapter's), newest first. Raises AdapterNotFound, AliasNotFound."""
        with self.database.reading() as catalog:
            self.require(catalog, name)
            if catalog.adapters.find(name) is None:
                raise AdapterNotFound(str(name))
            moves = catalog.aliases.history(name, alias, limit=limit)
        if alias and not moves:
            raise AliasNotFound(str(name), alias)
        return moves

    def _existing(self, catalog: Catalog, name: AdapterName, alias: str) -> None:
        if catalog.adapters.find(name) is None:
            raise AdapterNotFound(str(name))
        if catalog.aliases.find(name, alias) is None:
            raise AliasNotFound(str(name), alias)


def _roll_back(catalog: Catalog, register: Alias, stack: Sequence[int], *, wanted: int | None) -> list[int]:
    """The stack after a rollback: popped down to the newest earlier target that is active (and is `wanted`)."""
    kept = list(stack[:-1])
    while kept:
        if wanted in (None, kept[-1]) and _version(catalog, register.adapter, kept[-1]).status is Status.ACTIVE:
            return kept
        kept.pop()
    raise NoRollbackTarget(str(register.adapter), register.name)
