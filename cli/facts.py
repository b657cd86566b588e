"""How versions, bases and moves are put in words, the same in every command."""

from cli.output import warn
from cli.text import count, number, short_digest
from registry.domain.records import AliasMove, BaseModel, Evidence, Version, VersionBase
from registry.domain.spec import AdapterSummary

_MEANING = {
    Evidence.EXACT: "weights hashed",
    Evidence.STRUCTURAL: "names, shapes fit",
    Evidence.DECLARED: "only a name",
}


def base_text(base: VersionBase) -> str:
    """A version's base with its evidence, in full."""
    return f"{base_label(base)} ({base.evidence.value}: {_MEANING[base.evidence]})"


def base_label(base: VersionBase) -> str:
    """What a base is called."""
    return base.name or (short_digest(base.fingerprint) if base.fingerprint else "unknown")


def base_cell(base: VersionBase) -> str:
    """A base in a table: its name without the organisation."""
    return base_label(base).rpartition("/")[2]


def warn_if_declared(base: VersionBase) -> None:
    """Say that a base was never checked, and how to have it checked."""
    if base.evidence is Evidence.DECLARED:
        what = f"the base {base.name} is only a name" if base.name else "no base is named"
        warn(f"{what}: `adapters base add` it, then push again to have it checked")


def model_label(base: BaseModel) -> str:
    """What a registered base is called."""
    return base.names[0] if base.names else short_digest(base.fingerprint)


def shape_text(summary: AdapterSummary) -> str:
    """Rank, alpha, size and kind of an adapter in one line."""
    parts = [f"rank {summary.rank}", f"alpha {number(summary.alpha)}", summary.dtype]
    parts.append(count(summary.parameters, "parameter"))
    return ", ".join(parts) + (f" · {', '.join(summary.variants)}" if summary.variants else "")


def status_text(version: Version) -> str:
    """A status with its reason."""
    return version.status.value + (f": {version.status_reason}" if version.status_reason else "")


def place(number_: int | None) -> str:
    """A version number as it stands in a reference, or a dash."""
    return "—" if number_ is None else f"v{number_}"


def move_text(move: AliasMove) -> str:
    """What a move did."""
    return f"{move.adapter}@{move.alias}: {place(move.before)} → {place(move.after)} (seq {move.seq})"
