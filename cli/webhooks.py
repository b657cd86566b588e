"""webhooks: whom to tell of a team's events, and what came of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.client import opened
from cli.command import Commands
from cli.output import Facts, Output, facts, next_step, say, table
from cli.text import when
from registry.domain.errors import Failure
from registry.domain.webhook_documents import deliveries_document, outcome_document, webhook_document
from registry.domain.webhooks import Delivery, Outcome, Webhook

if TYPE_CHECKING:
    from registry.service.webhooks import NewWebhook


@click.group(cls=Commands)
def webhooks() -> None:
    """Have a team's events sent to a URL.

    Messages are signed, come in order, and again until they are answered with 200 or its like; a server sends them.
    """


_webhook_argument = click.argument("number", metavar="NUMBER", type=click.IntRange(min=1), help="the webhook")


@webhooks.command("create", examples=["adapters webhooks create demo https://hooks.example/a --kind alias.moved"])
@click.argument("team", metavar="TEAM", help="the team whose events are sent")
@click.argument("url", metavar="URL", help="where they are sent; what may be called is the operator's to say")
@click.option("--kind", "kinds", multiple=True, help="Only this kind of event, as alias.moved; may be repeated.")
@click.option("--adapter", "adapters", multiple=True, metavar="NAME", help="Only this adapter; may be repeated.")
@click.option("--description", default="", help="What it is for.")
@click.option("--from", "cursor", type=click.IntRange(min=0), metavar="CURSOR", help="After this event, not from now.")
def create(
    out: Output,
    team: str,
    url: str,
    kinds: tuple[str, ...],
    adapters: tuple[str, ...],
    description: str,
    cursor: int | None,
) -> None:
    """Send a team's events to a URL, from now on.

    The secret that messages are signed with is shown once. It takes an admin of the team.
    """
    with opened() as registry:
        made = registry.create_webhook(
            team, url, kinds=kinds or None, adapters=adapters or None, description=description, cursor=cursor
        )
    _answer_new(out, made)


def _answer_new(out: Output, made: "NewWebhook") -> None:
    document = webhook_document(made.webhook) | {"secret": made.secret}
    rows = [("secret", made.secret), *_facts(made.webhook)]
    out.answer(document, lambda: facts(rows), lambda: next_step(f"adapters webhooks test {made.webhook.id}"))


def _facts(webhook: Webhook) -> Facts:
    rows = [
        ("number", str(webhook.id)),
        ("team", webhook.team),
        ("url", webhook.url),
        ("hears of", _filter(webhook)),
        ("state", webhook.state.value),
        ("done up to", f"event {webhook.cursor}"),
    ]
    if webhook.description:
        rows.insert(2, ("for", webhook.description))
    if webhook.error:
        again = f", again {when(webhook.next_at)}" if webhook.next_at and webhook.state.value == "active" else ""
        rows.append(("trouble", f"{webhook.error}; {webhook.attempts} attempts{again}"))
    return rows


def _filter(webhook: Webhook) -> str:
    kinds = " ".join(webhook.kinds) if webhook.kinds else "everything"
    return f"{kinds} of {' '.join(webhook.adapters)}" if webhook.adapters else kinds


@webhooks.command("list", examples=["adapters webhooks list"])
@click.argument("team", metavar="[TEAM]", required=False, help="only this team's")
def list_webhooks(out: Output, team: str | None) -> None:
    """List webhooks: a team's, or those of every team that you are an admin of."""
    with opened() as registry:
        found = registry.webhooks(team)
    out.answer({"webhooks": [webhook_document(one) for one in found]}, lambda: _table(found))


def _table(found: Sequence[Webhook]) -> None:
    if not found:
        say("no webhooks here; `adapters webhooks create TEAM URL` makes one")
        return
    rows = [[str(one.id), one.team, one.url, _filter(one), one.state.value] for one in found]
    table(["number", "team", "url", "hears of", "state"], rows, numbers=["number"])


@webhooks.command("show", examples=["adapters webhooks show 1"])
@_webhook_argument
def show(out: Output, number: int) -> None:
    """Show a webhook: what it hears of, how far it is, and what is wrong."""
    with opened() as registry:
        found = registry.webhook(number)
    out.answer(webhook_document(found), lambda: facts(_facts(found)))


@webhooks.command("deliveries", examples=["adapters webhooks deliveries 1"])
@_webhook_argument
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many to show at most.")
@click.option("--cursor", help="Where to go on, as the page before printed it.")
def deliveries(out: Output, number: int, limit: int, cursor: str | None) -> None:
    """Show what became of a webhook's messages, newest event first.

    Messages that arrived are kept in the list for 30 days.
    """
    with opened() as registry:
        page = registry.deliveries(number, cursor=cursor, limit=limit)

    def go_on() -> None:
        if page.cursor:
            next_step(f"adapters webhooks deliveries {number} --limit {limit} --cursor {page.cursor}")

    out.answer(deliveries_document(page), lambda: _deliveries(page.items), go_on)


def _deliveries(found: Sequence[Delivery]) -> None:
    if not found:
        say("nothing was sent")
        return
    rows = [[one.id, one.kind, one.state.value, str(one.attempts), _answer(one), when(one.last_at)] for one in found]
    table(["message", "event", "state", "attempts", "answer", "last (UTC)"], rows, numbers=["attempts"])


def _answer(found: Delivery | Outcome) -> str:
    return found.error or f"{found.status} in {found.milliseconds} ms"


@webhooks.command("replay", examples=["adapters webhooks replay 1 --from 5"])
@_webhook_argument
@click.option("--from", "cursor", type=click.IntRange(min=0), metavar="CURSOR", help="Everything after this event.")
@click.option("--delivery", metavar="MESSAGE", help="This message alone, as `webhooks deliveries` names it.")
def replay(out: Output, number: int, cursor: int | None, delivery: str | None) -> None:
    """Have messages sent again, under the ids that they had.

    Without options a failing webhook goes on with the message that was given up.
    """
    with opened() as registry:
        found = registry.replay(number, cursor=cursor, delivery=delivery)
    out.answer(webhook_document(found), lambda: facts(_facts(found)))


@webhooks.command("rotate", examples=["adapters webhooks rotate 1"])
@_webhook_argument
def rotate(out: Output, number: int) -> None:
    """Give a webhook a new secret. For a day messages are signed with the former one as well."""
    with opened() as registry:
        made = registry.rotate_secret(number)
    _answer_new(out, made)


@webhooks.command("test", examples=["adapters webhooks test 1"])
@_webhook_argument
def test(out: Output, number: int) -> None:
    """Send a webhook a message of the type ping, once and now. The exit code is 1 if it doesn't arrive."""
    with opened() as registry:
        outcome = registry.test_webhook(number)
    out.answer(outcome_document(outcome), lambda: say(f"arrived: {_answer(outcome)}") if outcome.delivered else None)
    if not outcome.delivered:
        raise Failure(f"it did not arrive: {outcome.error}")


@webhooks.command("delete", examples=["adapters webhooks delete 1"])
@_webhook_argument
def delete(out: Output, number: int) -> None:
    """Forget a webhook, and what became of its messages."""
    with opened() as registry:
        registry.delete_webhook(number)
    out.answer({"id": number}, lambda: say(f"the webhook {number} is gone"))
