"""Frozen records of what the registry keeps. Rows never leave `registry.sql`; these do.

Times are aware UTC datetimes, sizes bytes, digests 64 lowercase hex digits (a commit: 40).
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from registry.domain.reference import AdapterName, serving_name
from registry.domain.rights import Role, Scope
from registry.domain.spec import AdapterSummary

T = TypeVar("T")

LOCAL_OWNER = "local"  # the one principal of an embedded registry


class Status(StrEnum):
    """Life of a version. Only `active` is found without an exact pin; `revoked` and `purged` can't be read at all."""

    PENDING = "pending"
    ACTIVE = "active"
    YANKED = "yanked"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    PURGED = "purged"


class Evidence(StrEnum):
    """How sure we are of a version's base model, strongest first."""

    EXACT = "exact"  # the pusher hashed the weights that it trained on
    STRUCTURAL = "structural"  # named by the configuration; names and shapes fit the base's tensor index
    DECLARED = "declared"  # a name only


class MoveKind(StrEnum):
    """Why an alias moved."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    visibility: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """A principal's role in a team."""

    team: str
    principal: str
    role: Role
    since: datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token without its secret. `teams` None: wherever the principal has rights."""

    id: int
    principal: str
    name: str
    scopes: tuple[Scope, ...]
    teams: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    used_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter line: what `team/name` stands for. `holds` is the fingerprint of a base model, where it is that."""

    name: AdapterName
    head: str | None  # commit that `main` points to
    latest: int | None  # newest version number
    versions: int
    aliases: dict[str, int]  # alias -> version number
    created_at: datetime
    updated_at: datetime
    description: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    deleted_at: datetime | None = None
    holds: str | None = None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a commit. `path` is relative, with `/`."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way in, for a team; the team has it when it is done. `session` is the blob store's name of it.

    Somebody verifies it until `verifying_until`, and has read `verified` bytes: all only if they are what was said.
    `failure` is the error that ended it.
    """

    id: str
    team: str
    sha256: str
    size: int
    part_size: int
    session: str
    actor: str
    created_at: datetime
    completed_at: datetime | None = None
    verifying_until: datetime | None = None
    verified: int = 0
    failure: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """A file tree of a line. `base` is the fingerprint of the base model that it holds in place of an adapter."""

    id: str
    adapter: AdapterName
    parent: str | None
    author: str
    message: str
    created_at: datetime
    version: int | None  # the version whose content it has, if it holds an adapter
    files: tuple[FileEntry, ...]
    base: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.adapter}@{self.id}"


@dataclass(frozen=True, slots=True)
class Tag:
    """A name that somebody gave to a commit (40 hex): a note, which never moves."""

    adapter: AdapterName
    name: str
    commit: str
    message: str
    actor: str
    at: datetime


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A registered base model. `names` are labels that admins control; the fingerprint is the identity."""

    fingerprint: str
    names: tuple[str, ...]
    format: str  # safetensors | gguf
    model_type: str | None  # config.json's model_type, or GGUF's general.architecture
    tensors: int
    parameters: int
    size: int
    quantised_of: str | None
    succeeds: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class BasePlace:
    """Where a base model's files are: the line whose newest commit holds them."""

    name: AdapterName
    commit: str


@dataclass(frozen=True, slots=True)
class VersionBase:
    """A version's base. `fingerprint` is None while only a name is known."""

    name: str | None
    fingerprint: str | None
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Version:
    adapter: AdapterName
    number: int
    commit: str
    digest: str
    status: Status
    status_reason: str | None
    summary: AdapterSummary
    base: VersionBase
    size: int
    author: str
    message: str
    metadata: dict[str, str]
    created_at: datetime
    files: tuple[FileEntry, ...] = ()
    damage: str | None = None

    @property
    def reference(self) -> str:
        return f"{self.adapter}@v{self.number}"

    @property
    def serving_name(self) -> str:
        return serving_name(self.adapter, self.digest)


@dataclass(frozen=True, slots=True)
class Alias:
    """A compare-and-set register. `version` is None after a delete, which keeps the counter."""

    adapter: AdapterName
    name: str
    version: int | None
    seq: int
    actor: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One line of an alias's append-only history."""

    adapter: AdapterName
    alias: str
    seq: int
    kind: MoveKind
    before: int | None
    after: int | None
    actor: str
    reason: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ExampleResults:
    """The results of single examples, which are kept as a blob; `count` examples."""

    sha256: str
    size: int
    count: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    adapter: AdapterName
    version: int
    dataset: str | None
    dataset_sha256: str | None
    metrics: dict[str, float]
    actor: str
    at: datetime
    examples: ExampleResults | None = None


@dataclass(frozen=True, slots=True)
class Parent:
    """An edge of the lineage, from a derived version to an adapter that it was made of."""

    adapter: AdapterName
    version: int
    digest: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """One way in which a version's content arrived: every push and every recipe that gave it. Never dropped."""

    commit: str
    actor: str
    at: datetime
    recipe_digest: str | None
    recipe: dict[str, Any] | None
    parents: tuple[Parent, ...] = ()


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a version came to be, and what was made of it."""

    adapter: AdapterName
    version: int
    digest: str
    provenance: tuple[Provenance, ...]
    descendants: tuple[Parent, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """What to search for; None or empty means any. `metrics` are (name, least value). `targets` must all be present.

    With `shown`, only what the main of an adapter shows is found.
    """

    team: str | None = None
    base: str | None = None
    rank_min: int | None = None
    rank_max: int | None = None
    targets: tuple[str, ...] = ()
    text: str | None = None
    metrics: tuple[tuple[str, float], ...] = ()
    status: Status | None = Status.ACTIVE
    format: str | None = None
    peft_type: str | None = None
    shown: bool = False
    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A page of a keyset listing; `cursor` is None on the last one."""

    items: tuple[T, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the outbox. `cursor` grows in commit order."""

    cursor: int
    kind: str
    adapter: AdapterName | None
    payload: dict[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    actor: str | None = None
