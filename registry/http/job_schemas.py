"""The shapes of jobs, and of what comes of them."""

from typing import Any

from registry.http.schemas import DIGITS, NAME, TIME, Error, Shape, example
from registry.http.version_schemas import Version

JOB_ID = "019aa1b2c3d47f00d1e2c3b4a596"


class JobProgress(Shape):
    """How much is done of what is being done: modules, adapters or bytes."""

    model_config = example(done=112, of=224, what="composing")

    done: int
    of: int
    what: str


_JOB: dict[str, Any] = {
    "id": JOB_ID,
    "kind": "compose",
    "name": NAME,
    "title": "0.7*acme/a + 0.3*acme/b into acme/support",
    "state": "running",
    "cancelling": False,
    "progress": {"done": 112, "of": 224, "what": "composing"},
    "version": None,
    "error": None,
    "requester": "ann",
    "attempts": 1,
    "created_at": TIME,
    "started_at": TIME,
    "ended_at": None,
}


class Job(Shape):
    """A job: queued, running, done, failed or cancelled; `version` is what it gave, `error` why it failed."""

    model_config = example(**_JOB)

    id: str
    kind: str
    name: str | None
    title: str
    state: str
    cancelling: bool
    progress: JobProgress
    version: int | None
    error: Error | None
    requester: str
    attempts: int
    created_at: str
    started_at: str | None
    ended_at: str | None


class Jobs(Shape):
    """Jobs, newest first; `cursor` is null on the last page."""

    jobs: list[Job]
    cursor: str | None


class Accepted(Shape):
    """The job that will do it, or has done so within `wait`."""

    model_config = example(job=_JOB)

    job: Job


class Composition(Shape):
    """What came of a composition: what `adapters blend --json` prints."""

    model_config = example(
        created=False,
        dry_run=False,
        expression="0.7*acme/a@v1 + 0.3*acme/b@v2",
        recipe_digest=DIGITS,
        recipe={"schema": 1, "dtype": "float32", "root": {"digest": DIGITS}, "inputs": []},
        version=None,
        report=None,
    )

    created: bool
    dry_run: bool
    expression: str
    recipe_digest: str
    recipe: dict[str, Any]
    version: Version | None
    report: dict[str, Any] | None


class Damage(Shape):
    """A blob that is missing or changed, and every version and alias that it hits."""

    sha256: str
    size: int
    problem: str
    versions: list[str]
    aliases: list[str]


class Collection(Shape):
    """What came of a collection: what `adapters gc --json` prints."""

    model_config = example(
        dry_run=False, grace=86400.0, blobs=3, bytes=8_400_000, unknown=1, waiting=2, waiting_bytes=5_600_000
    )

    dry_run: bool
    grace: float
    blobs: int
    bytes: int
    unknown: int
    waiting: int
    waiting_bytes: int


class Purge(Shape):
    """What was purged: `kept` of its contents somebody else has."""

    model_config = example(subject="acme/support@v3", blobs=2, bytes=2_800_000, kept=1)

    subject: str
    blobs: int
    bytes: int
    kept: int


class Verification(Shape):
    """What came of a verification: what `adapters verify --json` prints."""

    model_config = example(blobs=24, bytes=2_700_000, deep=True, damage=[])

    blobs: int
    bytes: int
    deep: bool
    damage: list[Damage]
