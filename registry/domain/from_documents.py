"""Documents back into records: the inverse of `registry.domain.documents`, for those who ask a server.

What a server says is checked as far as it is acted upon: names, digests, paths and types of what is shown. Raises
KeyError, TypeError, ValueError or an AdaptersError for a document that isn't one of ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from registry.domain.paths import check_paths
from registry.domain.records import (
    Adapter,
    Alias,
    AliasMove,
    BaseModel,
    BasePlace,
    Evaluation,
    Event,
    Evidence,
    ExampleResults,
    FileEntry,
    Lineage,
    Member,
    MoveKind,
    Namespace,
    Page,
    Parent,
    Provenance,
    Status,
    Token,
    Version,
    VersionBase,
)
from registry.domain.reference import AdapterName
from registry.domain.rights import Role, Scope
from registry.domain.spec import AdapterSummary, ModuleSpec

Document = Mapping[str, Any]
T = TypeVar("T")

_SHA256 = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}", re.ASCII)


def version(document: Document) -> Version:
    """A version; without files where the document has none."""
    return Version(
        adapter=AdapterName.parse(_text(document["name"])),
        number=_whole(document["version"]),
        commit=_commit(document["commit"]),
        digest=_digest(document["digest"]),
        status=Status(document["status"]),
        status_reason=_optional(document["status_reason"], _text),
        summary=_summary(document),
        base=_base_of_version(document["base"]),
        size=_whole(document["size"]),
        author=_text(document["author"]),
        message=_text(document["message"]),
        metadata={_text(key): _text(value) for key, value in document["metadata"].items()},
        created_at=_time(document["created_at"]),
        files=_files(document.get("files", ())),
    )


def _summary(document: Document) -> AdapterSummary:
    return AdapterSummary(
        format=_text(document["format"]),
        peft_type=_text(document["peft_type"]),
        rank=_whole(document["rank"]),
        alpha=float(document["alpha"]),
        ranks={_text(module): _whole(rank) for module, rank in document["ranks"].items()},
        targets=_texts(document["targets"]),
        variants=_texts(document["variants"]),
        dtype=_text(document["dtype"]),
        parameters=_whole(document["parameters"]),
        base_name=_optional(document["base_name"], _text),
        task_type=_optional(document["task_type"], _text),
    )


def _files(rows: Sequence[Document]) -> tuple[FileEntry, ...]:
    files = tuple(FileEntry(_text(row["path"]), _digest(row["sha256"]), _whole(row["size"])) for row in rows)
    check_paths([file.path for file in files])  # they become paths on somebody's disk
    return files


def _base_of_version(document: Document) -> VersionBase:
    name, fingerprint = _optional(document["name"], _text), _optional(document["fingerprint"], _digest)
    return VersionBase(name, fingerprint, Evidence(document["evidence"]))


def module(document: Document) -> ModuleSpec:
    """A module, with the names of its tensors where the document has them."""
    return ModuleSpec(
        name=_text(document["name"]),
        kind=_text(document["kind"]),
        rank=_whole(document["rank"]),
        alpha=float(document["alpha"]),
        scaling=float(document["scaling"]),
        in_features=_whole(document["in_features"]),
        out_features=_whole(document["out_features"]),
        dtype=_text(document["dtype"]),
        variants=_texts(document["variants"]),
        tensors={_text(role): _text(name) for role, name in document.get("tensors", {}).items()},
        base_shape=tuple(map(_whole, document.get("base_shape", ()))),
        experts=_whole(document.get("experts", 1)),
        base_tensor=_optional(document["base_tensor"], _text),
    )


def adapter(document: Document) -> Adapter:
    return Adapter(
        name=AdapterName.parse(_text(document["name"])),
        head=_optional(document["commit"], _commit),
        latest=_optional(document["latest"], _whole),
        versions=_whole(document["versions"]),
        aliases={_text(name): _whole(number) for name, number in document["aliases"].items()},
        created_at=_time(document["created_at"]),
        updated_at=_time(document["updated_at"]),
        description=_text(document["description"]),
        metadata={_text(key): _text(value) for key, value in document["metadata"].items()},
        holds=_optional(document["holds"], _digest),
    )


def listed(document: Document) -> tuple[Adapter, Version | None]:
    """An adapter and its newest version, as a listing has them."""
    return adapter(document), _optional(document["newest"], version)


def move(document: Document) -> AliasMove:
    return AliasMove(
        adapter=AdapterName.parse(_text(document["name"])),
        alias=_text(document["alias"]),
        seq=_whole(document["seq"]),
        kind=MoveKind(document["kind"]),
        before=_optional(document["before"], _whole),
        after=_optional(document["after"], _whole),
        actor=_text(document["actor"]),
        reason=_optional(document["reason"], _text),
        at=_time(document["at"]),
    )


def alias(document: Document) -> Alias:
    return Alias(
        adapter=AdapterName.parse(_text(document["name"])),
        name=_text(document["alias"]),
        version=_optional(document["version"], _whole),
        seq=_whole(document["seq"]),
        actor=_text(document["actor"]),
        updated_at=_time(document["updated_at"]),
    )


def evaluation(document: Document) -> Evaluation:
    return Evaluation(
        adapter=AdapterName.parse(_text(document["name"])),
        version=_whole(document["version"]),
        dataset=_optional(document["dataset"], _text),
        dataset_sha256=_optional(document["dataset_sha256"], _text),
        metrics={_text(name): float(value) for name, value in document["metrics"].items()},
        actor=_text(document["actor"]),
        at=_time(document["at"]),
        examples=_optional(document["examples"], _examples),
    )


def _examples(document: Document) -> ExampleResults:
    return ExampleResults(_digest(document["sha256"]), _whole(document["size"]), _whole(document["count"]))


def base(document: Document) -> BaseModel:
    return BaseModel(
        fingerprint=_digest(document["fingerprint"]),
        names=_texts(document["names"]),
        format=_text(document["format"]),
        model_type=_optional(document["model_type"], _text),
        tensors=_whole(document["tensors"]),
        parameters=_whole(document["parameters"]),
        size=_whole(document["size"]),
        quantised_of=_optional(document["quantised_of"], _digest),
        succeeds=_optional(document["succeeds"], _digest),
        created_at=_time(document["created_at"]),
    )


def base_place(document: Document) -> BasePlace:
    return BasePlace(AdapterName.parse(_text(document["name"])), _text(document["commit"]))


def parent(document: Document) -> Parent:
    name = AdapterName.parse(_text(document["name"]))
    return Parent(name, _whole(document["version"]), _digest(document["digest"]))


def lineage(document: Document) -> Lineage:
    return Lineage(
        adapter=AdapterName.parse(_text(document["name"])),
        version=_whole(document["version"]),
        digest=_digest(document["digest"]),
        provenance=tuple(map(_provenance, document["provenance"])),
        descendants=tuple(map(parent, document["descendants"])),
    )


def _provenance(document: Document) -> Provenance:
    return Provenance(
        commit=_commit(document["commit"]),
        actor=_text(document["actor"]),
        at=_time(document["at"]),
        recipe_digest=_optional(document["recipe_digest"], _text),
        recipe=_optional(document["recipe"], dict),
        parents=tuple(map(parent, document["parents"])),
    )


def team(document: Document) -> Namespace:
    return Namespace(_text(document["name"]), _text(document["visibility"]), _time(document["created_at"]))


def member(document: Document) -> Member:
    team, who = _text(document["team"]), _text(document["principal"])
    return Member(team, who, Role(document["role"]), _time(document["since"]))


def token(document: Document) -> Token:
    return Token(
        id=_whole(document["id"]),
        principal=_text(document["principal"]),
        name=_text(document["name"]),
        scopes=tuple(map(Scope, document["scopes"])),
        teams=_optional(document["teams"], _texts),
        created_at=_time(document["created_at"]),
        expires_at=_optional(document["expires_at"], _time),
        used_at=_optional(document["used_at"], _time),
        revoked_at=_optional(document["revoked_at"], _time),
    )


def event(document: Document) -> Event:
    return Event(
        cursor=_whole(document["cursor"]),
        kind=_text(document["kind"]),
        adapter=_optional(document["name"], lambda name: AdapterName.parse(_text(name))),
        payload=dict(document["payload"]),
        at=_optional(document["at"], _time),
        actor=_optional(document["actor"], _text),
    )


def page(document: Document, key: str, item: Callable[[Document], T]) -> Page[T]:
    """A page of what a document lists under a key."""
    return Page(tuple(map(item, document[key])), _optional(document["cursor"], _text))


def _optional(value: Any, read: Callable[[Any], T]) -> T | None:
    return None if value is None else read(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.80} is not a text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError("a text stands where a list of them should")
    return tuple(map(_text, values))


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r:.80} is not a whole number")
    return value


def _digest(value: Any) -> str:
    match = _SHA256.fullmatch(_text(value))
    if match is None:
        raise ValueError(f"{value!r:.80} is not a sha256")
    return match[1]


def _commit(value: Any) -> str:
    if not _COMMIT.fullmatch(_text(value)):
        raise ValueError(f"{value!r:.80} is not a commit")
    return str(value)


def _time(value: Any) -> datetime:
    at = datetime.fromisoformat(_text(value))
    if at.tzinfo is None:
        raise ValueError(f"{value!r:.80} has no time zone")
    return at
