"""The shapes of look-ups: what a serving stack gets to know, one version or many at once."""

from registry.http.schemas import COMMIT, DIGEST, DIGITS, NAME, Error, Shape, example, example_of
from registry.http.version_schemas import BaseOfVersion, File, Parent


class AddressedFile(File):
    """A file with the address where it stays."""

    url: str


class EngineCompat(Shape):
    """What an engine makes of an adapter as it is stored; a reason ends in its source, in parentheses."""

    model_config = example(
        engine="vllm", ok=False, reasons=["dora: it refuses DoRA (vllm-project/vllm: vllm/lora/peft_helper.py)"]
    )

    engine: str
    ok: bool
    reasons: list[str]


class Resolution(Shape):
    """Everything that a serving stack must check before it loads a version, under its serving name."""

    model_config = example(
        name=NAME,
        version=3,
        commit=COMMIT,
        digest=DIGEST,
        serving_name="support@sha256-7a67decc6d52",
        alias="production",
        seq=4,
        status="active",
        base={"name": "acme/model", "fingerprint": DIGITS, "evidence": "structural"},
        rank=8,
        alpha=16.0,
        ranks={},
        targets=["q_proj", "v_proj"],
        dtype="BF16",
        variants=[],
        size=299_839,
        files=[],
        engine_compat=None,
        parents=[],
    )

    name: str
    version: int
    commit: str
    digest: str
    serving_name: str
    alias: str | None
    seq: int | None
    status: str
    base: BaseOfVersion
    rank: int
    alpha: float
    ranks: dict[str, int]
    targets: list[str]
    dtype: str
    variants: list[str]
    size: int
    files: list[AddressedFile]
    engine_compat: EngineCompat | None
    parents: list[Parent]


class ResolvedReference(Shape):
    """One reference of a batch: its answer, or why there is none; `status` is what a look-up alone would have had."""

    model_config = example(ref=f"{NAME}@production", status=200, answer=example_of(Resolution), error=None)

    ref: str
    status: int
    answer: Resolution | None
    error: Error | None


class Resolutions(Shape):
    """The answers of a batch, in its order."""

    answers: list[ResolvedReference]
