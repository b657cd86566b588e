"""The shapes of versions, and of what is known about them."""

from typing import Any

from registry.http.evaluation_schemas import Evaluation
from registry.http.schemas import COMMIT, DIGEST, DIGITS, NAME, TIME, Shape, example, example_of


class BaseOfVersion(Shape):
    """A version's base model and how sure that is: exact, structural or declared."""

    model_config = example(name="acme/model", fingerprint=DIGITS, evidence="structural")

    name: str | None
    fingerprint: str | None
    evidence: str


class File(Shape):
    """A file of a version; its size in bytes."""

    model_config = example(path="adapter_model.safetensors", size=296_000, sha256=DIGITS)

    path: str
    size: int
    sha256: str


class Parent(Shape):
    """A version that another one was made of, or that was made of it."""

    model_config = example(name=NAME, version=3, digest=DIGEST)

    name: str
    version: int
    digest: str


_VERSION: dict[str, Any] = {
    "name": NAME,
    "version": 3,
    "commit": COMMIT,
    "digest": DIGEST,
    "serving_name": "support@sha256-7a67decc6d52",
    "status": "active",
    "status_reason": None,
    "base": {"name": "acme/model", "fingerprint": DIGITS, "evidence": "structural"},
    "format": "peft",
    "peft_type": "LORA",
    "rank": 8,
    "alpha": 16.0,
    "ranks": {},
    "targets": ["q_proj", "v_proj"],
    "variants": [],
    "dtype": "BF16",
    "parameters": 147_456,
    "base_name": "meta-llama/Llama-3.1-8B",
    "task_type": "CAUSAL_LM",
    "size": 299_839,
    "author": "ann",
    "message": "more data",
    "metadata": {"run": "17"},
    "created_at": TIME,
}


class Version(Shape):
    """A version: what it is, where it stands, who pushed it."""

    model_config = example(**_VERSION)

    name: str
    version: int
    commit: str
    digest: str
    serving_name: str
    status: str
    status_reason: str | None
    base: BaseOfVersion
    format: str
    peft_type: str
    rank: int
    alpha: float
    ranks: dict[str, int]
    targets: list[str]
    variants: list[str]
    dtype: str
    parameters: int
    base_name: str | None
    task_type: str | None
    size: int
    author: str
    message: str
    metadata: dict[str, str]
    created_at: str
    files: list[File] | None = None


class VersionPage(Shape):
    """A page of versions; `cursor` is null on the last one."""

    versions: list[Version]
    cursor: str | None


class Adapter(Shape):
    """An adapter line: its newest version, and where its aliases point.

    `holds` is the fingerprint of a base model, where the name stands for one and not for adapters.
    """

    model_config = example(
        name=NAME,
        description="answers for the help desk",
        metadata={"owner": "support-ml"},
        commit=COMMIT,
        latest=3,
        versions=3,
        aliases={"production": 2},
        base={"name": "acme/model", "fingerprint": DIGITS, "evidence": "structural"},
        rank=8,
        newest=_VERSION,
        holds=None,
        created_at=TIME,
        updated_at=TIME,
    )

    name: str
    description: str
    metadata: dict[str, str]
    commit: str | None
    latest: int | None
    versions: int
    aliases: dict[str, int]
    base: BaseOfVersion | None
    rank: int | None
    newest: Version | None
    holds: str | None
    created_at: str
    updated_at: str


class AdapterPage(Shape):
    """A page of adapters; `cursor` is null on the last one."""

    adapters: list[Adapter]
    cursor: str | None


class Provenance(Shape):
    """One way in which a version's content arrived. The recipe is null where it tells of what one may not read."""

    commit: str
    actor: str
    at: str
    recipe_digest: str | None
    recipe: dict[str, Any] | None
    parents: list[Parent]


class Lineage(Shape):
    """How a version came to be, and what was made of it."""

    model_config = example(
        name=NAME,
        version=3,
        digest=DIGEST,
        provenance=[
            {"commit": COMMIT, "actor": "ann", "at": TIME, "recipe_digest": None, "recipe": None, "parents": []}
        ],
        descendants=[],
    )

    name: str
    version: int
    digest: str
    provenance: list[Provenance]
    descendants: list[Parent]


class ShownVersion(Version):
    """Everything that is known of a version; `aliases` are those that point to it, with their sequence numbers."""

    model_config = example(
        **example_of(Version),
        aliases={"production": 4},
        evaluations=[example_of(Evaluation)],
        lineage=example_of(Lineage),
    )

    aliases: dict[str, int]
    evaluations: list[Evaluation]
    lineage: Lineage


class Module(Shape):
    """An adapted module; rank 0 where none applies."""

    model_config = example(
        name="model.layers.0.self_attn.q_proj",
        kind="linear",
        rank=8,
        alpha=16.0,
        scaling=2.0,
        in_features=2048,
        out_features=2048,
        dtype="BF16",
        variants=[],
        base_tensor="model.layers.0.self_attn.q_proj.weight",
    )

    name: str
    kind: str
    rank: int
    alpha: float
    scaling: float
    in_features: int
    out_features: int
    dtype: str
    variants: list[str]
    base_tensor: str | None


class WholeModule(Module):
    """A module with the names of its tensors by what they are for; `experts` is how many a 3-D parameter stacks."""

    model_config = example(
        **example_of(Module),
        tensors={"A": "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"},
        base_shape=[2048, 2048],
        experts=1,
    )

    tensors: dict[str, str]
    base_shape: list[int]
    experts: int


class Modules(Shape):
    """The adapted modules of a version."""

    modules: list[Module]


class WholeModules(Shape):
    """With `tensors=true`: the adapted modules, and what each is made of."""

    modules: list[WholeModule]


class Difference(Shape):
    """What differs, each as [left, right]; null where one side has none."""

    model_config = example(
        left="acme/support@v2", right="acme/support@v3", facts={"rank": [8, 16]}, files={}, modules={}
    )

    left: str
    right: str
    facts: dict[str, list[Any]]
    files: dict[str, list[Any]]
    modules: dict[str, list[Any]]
