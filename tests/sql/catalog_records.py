"""Records that the catalog's tests write, with what they don't care about filled in."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from registry.domain.records import (
    Alias,
    AliasMove,
    Commit,
    Evidence,
    FileEntry,
    MoveKind,
    Status,
    Version,
    VersionBase,
)
from registry.domain.reference import AdapterName
from registry.domain.spec import AdapterSummary, ModuleSpec
from registry.sql.catalog import Catalog

START = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
NAME = AdapterName("demo", "sentiment")
MODULE = ModuleSpec(
    "layer.0.query",
    "linear",
    8,
    16.0,
    2.0,
    384,
    384,
    "F32",
    ("rank_pattern",),
    {"A": "a", "B": "b"},
    base_tensor="encoder.query",
)


def at(seconds: float = 0) -> datetime:
    """A moment after the start."""
    return START + timedelta(seconds=seconds)


def digest(text: str) -> str:
    """A sha256 that stands for some content."""
    return hashlib.sha256(text.encode()).hexdigest()


def summary(**changes: Any) -> AdapterSummary:
    """The summary of an ordinary adapter."""
    values: dict[str, Any] = {
        "format": "peft",
        "peft_type": "LORA",
        "rank": 8,
        "alpha": 16.0,
        "ranks": {"layer.1.query": 4},
        "targets": ("query", "value"),
        "variants": ("rank_pattern",),
        "dtype": "F32",
        "parameters": 73728,
        "base_name": "MiniLM",
        "task_type": "SEQ_CLS",
    }
    return AdapterSummary(**{**values, **changes})


def version(content: str, name: AdapterName = NAME, **changes: Any) -> Version:
    """A version that isn't numbered yet; `content` tells one from another."""
    values: dict[str, Any] = {
        "adapter": name,
        "number": 0,
        "commit": digest(f"commit {name} {content}")[:40],
        "digest": digest(f"content {content}"),
        "status": Status.ACTIVE,
        "status_reason": None,
        "summary": summary(),
        "base": VersionBase("MiniLM", None, Evidence.DECLARED),
        "size": 10,
        "author": "ann",
        "message": f"train on {content}",
        "metadata": {"run": "r1"},
        "created_at": at(),
    }
    return Version(**{**values, **changes})


def files(content: str) -> tuple[FileEntry, ...]:
    """Two files, one of which all contents share."""
    return (
        FileEntry("adapter_config.json", digest("config"), 3),
        FileEntry("adapter_model.safetensors", digest(f"weights {content}"), 7),
    )


def publish(catalog: Catalog, content: str, name: AdapterName = NAME, **changes: Any) -> Version:
    """Everything that a push writes, but for the event."""
    new = version(content, name, **changes)
    stored = catalog.adapters.ensure(name, actor=new.author, at=new.created_at)
    entries = files(content)
    catalog.blobs.register(name.team, [(entry.sha256, entry.size) for entry in entries], at=new.created_at)
    added = catalog.versions.add(new, (MODULE,))
    commit_version(catalog, added, stored, content=content)
    return added


def commit_version(catalog: Catalog, added: Version, name: AdapterName = NAME, *, content: str = "one") -> Commit:
    """The commit of a version that was just added."""
    head = catalog.commits.head(name)
    commit = Commit(
        id=added.commit,
        adapter=name,
        parent=head.id if head else None,
        author=added.author,
        message=added.message,
        created_at=added.created_at,
        version=added.number,
        files=files(content),
    )
    catalog.commits.add(commit)
    return commit


def promote(catalog: Catalog, number: int | None, alias: str = "production", name: AdapterName = NAME) -> Alias:
    """Move an alias: push onto its stack, or delete it."""
    register = catalog.aliases.lock(name, alias, actor="ann", at=at())
    kind = MoveKind.DELETE if number is None else MoveKind.PROMOTE
    stack = [] if number is None else [*catalog.aliases.stack(name, alias), number]
    move = AliasMove(name, register.name, register.seq + 1, kind, register.version, number, "ann", None, at())
    return catalog.aliases.apply(move, stack)
