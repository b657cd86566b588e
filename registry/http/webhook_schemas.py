"""The shapes of webhooks and of what became of their messages."""

from registry.http.schemas import NAME, TIME, Shape, example, example_of


class Webhook(Shape):
    """Where a team's events are sent. `kinds` and `adapters` null: everything. `cursor`: the last event done with."""

    model_config = example(
        id=7,
        uid="5f0c8a3b9d1e4f67",
        team="acme",
        url="https://hooks.acme.example/adapters",
        description="deployments",
        kinds=["alias.moved"],
        adapters=[NAME],
        state="active",
        cursor=41,
        attempts=0,
        failed_since=None,
        next_at=None,
        error=None,
        actor="ann",
        created_at=TIME,
    )

    id: int
    uid: str
    team: str
    url: str
    description: str
    kinds: list[str] | None
    adapters: list[str] | None
    state: str
    cursor: int
    attempts: int
    failed_since: str | None
    next_at: str | None
    error: str | None
    actor: str
    created_at: str


class NewWebhook(Webhook):
    """A webhook and its secret, which nobody sees again."""

    model_config = example(**example_of(Webhook), secret="whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD")  # noqa: S106 - an example

    secret: str


class Webhooks(Shape):
    """Webhooks by number."""

    webhooks: list[Webhook]


class Delivery(Shape):
    """What became of an event's message; `status` is that of the last answer, if there was one."""

    model_config = example(
        id="msg_5f0c8a3b9d1e4f67_41",
        webhook=7,
        cursor=41,
        kind="alias.moved",
        name=NAME,
        state="delivered",
        attempts=1,
        status=204,
        error=None,
        milliseconds=38,
        first_at=TIME,
        last_at=TIME,
    )

    id: str
    webhook: int
    cursor: int
    kind: str
    name: str | None
    state: str
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    first_at: str
    last_at: str


class Deliveries(Shape):
    """A page of deliveries, newest event first; `cursor` is null on the last one."""

    deliveries: list[Delivery]
    cursor: str | None


class Outcome(Shape):
    """What came of one attempt."""

    model_config = example(delivered=True, status=204, error=None, milliseconds=38)

    delivered: bool
    status: int | None
    error: str | None
    milliseconds: int
