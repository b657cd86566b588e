"""Jobs: what is asked for now and done later, how far it is, and what came of it. Knows no database and no worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

from registry.domain.records import Version
from registry.domain.reference import AdapterName, Reference

if TYPE_CHECKING:
    from registry.domain.recipe import Recipe

REPORTS = ("sample", "full")


class JobKind(StrEnum):
    COMPOSE = "compose"
    VERIFY = "verify"
    COLLECT = "collect"


class JobState(StrEnum):
    """Where a job stands; the last three are for good."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class CompositionOrder:
    """A composition to be made and published. `asked` is the recipe as it was written, once `recipe` is pinned."""

    into: AdapterName
    recipe: "Recipe"
    asked: "Recipe | None" = None
    aliases: tuple[str, ...] = ()
    message: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    across_bases: bool = False
    report: str = "sample"
    force: bool = False
    dry_run: bool = False

    def document(self) -> dict[str, Any]:
        """The order as a JSON value."""
        return {
            "into": str(self.into),
            "recipe": self.recipe.document(),
            "asked": self.asked.document() if self.asked else None,
            "aliases": list(self.aliases),
            "message": self.message,
            "metadata": dict(self.metadata),
            "across_bases": self.across_bases,
            "report": self.report,
            "force": self.force,
            "dry_run": self.dry_run,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What `document` wrote. Raises InvalidRecipe for a method of another revision."""
        from registry.domain.recipe import Recipe  # lazy: start-up time

        asked = document["asked"]
        return cls(
            into=AdapterName.parse(document["into"]),
            recipe=Recipe.from_document(document["recipe"]),
            asked=Recipe.from_document(asked) if asked else None,
            aliases=tuple(document["aliases"]),
            message=document["message"],
            metadata=document["metadata"],
            across_bases=document["across_bases"],
            report=document["report"],
            force=document["force"],
            dry_run=document["dry_run"],
        )


@dataclass(frozen=True, slots=True)
class VerificationOrder:
    """Stored bytes to be looked at: of one version, or (None) of all; `deep` reads them."""

    version: Reference | None
    deep: bool

    def document(self) -> dict[str, Any]:
        """The order as a JSON value."""
        return {"version": str(self.version) if self.version else None, "deep": self.deep}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What `document` wrote."""
        version = document["version"]
        return cls(Reference.parse(version) if version else None, document["deep"])


@dataclass(frozen=True, slots=True)
class CollectionOrder:
    """Blobs to be removed that nothing has referred to for the grace; with `dry_run`, to be counted."""

    grace: timedelta
    dry_run: bool

    def document(self) -> dict[str, Any]:
        """The order as a JSON value."""
        return {"grace": self.grace.total_seconds(), "dry_run": self.dry_run}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """What `document` wrote."""
        return cls(timedelta(seconds=document["grace"]), document["dry_run"])


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is: `done` of `of` of what is being done; modules, adapters or bytes."""

    what: str = ""
    done: int = 0
    of: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A job. `target` is None for one about the whole registry.

    `order` is its order's document; `title` and `order` are empty for those who may not read every input. `version`,
    `commit` and `created` say what was published; `commit` is None where nothing new was. `error` is a document.
    """

    id: str
    kind: JobKind
    state: JobState
    requester: str
    target: AdapterName | None
    title: str
    order: Mapping[str, Any]
    created_at: datetime
    progress: JobProgress = JobProgress()
    cancelling: bool = False
    version: int | None = None
    commit: str | None = None
    created: bool | None = None
    error: Mapping[str, Any] | None = None
    attempts: int = 0
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def inputs(self) -> tuple[AdapterName, ...]:
        """The adapters that it reads besides its target."""
        recipe = self.order.get("recipe") or {}
        return tuple(AdapterName.parse(line["adapter"]) for line in recipe.get("inputs", ()))


@dataclass(frozen=True, slots=True)
class Submitted:
    """What came of asking: the version that the recipe has given already, or the job that will make one."""

    order: CompositionOrder
    version: Version | None = None
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's right to run a job and to end it, until somebody else gets one. `secret` is never shown."""

    job: str
    secret: str = field(repr=False)
