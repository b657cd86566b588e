"""The shapes of what was measured of versions, and of versions side by side."""

from registry.http.schemas import DIGEST, DIGITS, NAME, TIME, Shape, example, example_of


class ExampleResults(Shape):
    """The results of single examples: how many, and the blob that they are in."""

    model_config = example(sha256=DIGITS, size=42000, count=1000)

    sha256: str
    size: int
    count: int


class Evaluation(Shape):
    """What was measured of a version."""

    model_config = example(
        name=NAME,
        version=3,
        dataset="held-out",
        dataset_sha256=None,
        metrics={"f1": 0.91},
        examples=None,
        actor="eve",
        at=TIME,
    )

    name: str
    version: int
    dataset: str | None
    dataset_sha256: str | None
    metrics: dict[str, float]
    examples: ExampleResults | None
    actor: str
    at: str


class Evaluations(Shape):
    """What was measured, newest first."""

    evaluations: list[Evaluation]


class Verdict(Shape):
    """Whether a gate would let a version pass, and what it lacks."""

    model_config = example(alias="production", passes=False, reasons=["f1>=0.9 is required, it has 0.88"])

    alias: str
    passes: bool
    reasons: list[str]


class ComparedVersion(Shape):
    """A version that is compared; the aliases that point at it, and what the gates say."""

    model_config = example(name=NAME, version=3, digest=DIGEST, status="active", aliases=["production"], gates=[])

    name: str
    version: int
    digest: str
    status: str
    aliases: list[str]
    gates: list[Verdict]


class MeasuredDifference(Shape):
    """A version's value minus the first one's. `method` is how `low`, `high` and `p` were found: see docs/comparing.md.

    Null where one number of each says nothing of how sure it is (`unpaired`).
    """

    model_config = example(value=0.018, low=0.004, high=0.032, p=0.0127, examples=1000, method="mcnemar")

    value: float
    low: float | None
    high: float | None
    p: float | None
    examples: int
    method: str


class ComparedRow(Shape):
    """A metric on a content of a data set. Values and differences are in the versions' order, the first's one null."""

    model_config = example(
        metric="accuracy",
        dataset="heldout",
        dataset_sha256=DIGITS,
        values=[0.842, 0.860],
        differences=[None, example_of(MeasuredDifference)],
    )

    metric: str
    dataset: str | None
    dataset_sha256: str | None
    values: list[float | None]
    differences: list[MeasuredDifference | None]


class Compared(Shape):
    """Versions side by side; `level` is that of the intervals."""

    model_config = example(level=0.95, versions=[example_of(ComparedVersion)] * 2, rows=[example_of(ComparedRow)])

    level: float
    versions: list[ComparedVersion]
    rows: list[ComparedRow]
