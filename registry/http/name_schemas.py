"""The shapes of aliases and bases: what has a name that moves, and what is checked against."""

from registry.http.schemas import COMMIT, DIGITS, NAME, TIME, Shape, example, example_of


class Alias(Shape):
    """Where an alias points; a move compares its sequence number."""

    model_config = example(name=NAME, alias="production", version=2, seq=4, actor="ann", updated_at=TIME)

    name: str
    alias: str
    version: int | None
    seq: int
    actor: str
    updated_at: str


class Aliases(Shape):
    """An adapter's aliases."""

    aliases: list[Alias]


class Move(Shape):
    """A move of an alias: promote, rollback or delete."""

    model_config = example(
        name=NAME,
        alias="production",
        seq=4,
        kind="promote",
        before=1,
        after=2,
        actor="ann",
        reason="better on held-out",
        at=TIME,
    )

    name: str
    alias: str
    seq: int
    kind: str
    before: int | None
    after: int | None
    actor: str
    reason: str | None
    at: str


class Moves(Shape):
    """Moves, newest first."""

    moves: list[Move]


class Base(Shape):
    """A registered base model; its size in bytes."""

    model_config = example(
        fingerprint=DIGITS,
        names=["acme/model"],
        format="safetensors",
        model_type="llama",
        tensors=291,
        parameters=8_030_261_248,
        size=16_060_522_496,
        quantised_of=None,
        succeeds=None,
        created_at=TIME,
    )

    fingerprint: str
    names: list[str]
    format: str
    model_type: str | None
    tensors: int
    parameters: int
    size: int
    quantised_of: str | None
    succeeds: str | None
    created_at: str


class BasePlace(Shape):
    """A line whose newest commit holds a base model's files."""

    model_config = example(name="acme/model", commit=COMMIT)

    name: str
    commit: str


class ShownBase(Base):
    """A base model, and where its files are published, as far as the caller may see it."""

    model_config = example(**example_of(Base), published=[example_of(BasePlace)])

    published: list[BasePlace]


class Bases(Shape):
    """The registered base models."""

    bases: list[Base]


class Index(Shape):
    """A base's tensors: component, name, dtype, shape, size in bytes, sha256 of the bytes."""

    model_config = example(
        format="safetensors",
        model_type="llama",
        tensors=[["", "model.embed_tokens.weight", "BF16", [128256, 4096], 1_050_673_152, DIGITS]],
    )

    format: str
    model_type: str | None
    tensors: list[tuple[str, str, str, list[int], int, str]]
