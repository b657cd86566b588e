"""The shapes of gates, approvals and what is watched."""

from registry.http.access_schemas import Event
from registry.http.schemas import DIGITS, NAME, TIME, Shape, example, example_of


class Requirement(Shape):
    """A metric with a bound, on a data set or on any."""

    model_config = example(metric="f1", comparison=">=", bound=0.85, dataset="held-out", dataset_sha256=DIGITS)

    metric: str
    comparison: str
    bound: float
    dataset: str | None
    dataset_sha256: str | None


class Gate(Shape):
    """What a version must show before an alias may point at it."""

    model_config = example(name=NAME, alias="production", requirements=[], approvals=1, actor="ann", at=TIME)

    name: str
    alias: str
    requirements: list[Requirement]
    approvals: int
    actor: str
    at: str


class Gates(Shape):
    """An adapter's gates."""

    gates: list[Gate]


class Approval(Shape):
    """Who says that a version may become what an alias points at."""

    model_config = example(name=NAME, version=3, alias="production", principal="eve", comment="read 50", at=TIME)

    name: str
    version: int
    alias: str
    principal: str
    comment: str
    at: str


class Watched(Shape):
    """Events after a cursor, and where to go on."""

    model_config = example(events=[example_of(Event)], cursor=41)

    events: list[Event]
    cursor: int


class Nothing(Shape):
    """An empty document."""


class Alive(Shape):
    """That the process is alive."""

    model_config = example(status="alive")

    status: str


class Readiness(Shape):
    """Whether the server can serve, and what each check says: ready, or what is wrong."""

    model_config = example(ready=True, checks={"database": "ready", "blobs": "ready"})

    ready: bool
    checks: dict[str, str]
