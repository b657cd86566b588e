"""Webhooks: in order, signed, again until they arrive; to nobody whom they may not call, by one sender at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from registry.domain.documents import event_document
from registry.domain.errors import DeliveryNotFound, NotAllowed, TargetRefused, WebhookNotFound, WrongUsage
from registry.domain.reference import AdapterName, Reference
from registry.domain.rights import Caller, Role
from registry.domain.webhook_secrets import WebhookSecrets
from registry.domain.webhooks import Patience, Webhook, WebhookState
from registry.service import Registry
from registry.service.delivering import Deliverer
from registry.service.publishing import Submission
from registry.service.webhooks import NewWebhook, reader_of
from registry.sql.engine import Database
from tests.factories import write_adapter
from tests.receivers import Receiver, documented_verify, receiver
from tests.service.senders import doomed_sender

__all__ = ["receiver"]
OURS = AdapterName("ours", "a")
QUICK = Patience(first=0.01, longest=0.05)
HASTY = replace(QUICK, timeout=0.5)
FORGETFUL = replace(QUICK, lease=timedelta(seconds=1))


@pytest.fixture
def called(registry: Registry, tmp_path: Path) -> Registry:
    """A registry with an adapter, which may call 127.0.0.1."""
    registry.webhook_targets = "127.0.0.0/8"
    registry.push_folder(write_adapter(tmp_path / "a"), Submission(OURS, ()))
    return registry


def hook(registry: Registry, receiver: Receiver, **options: Any) -> NewWebhook:
    return registry.create_webhook("ours", receiver.url, **options)


def move(registry: Registry, times: int) -> list[int]:
    """Move an alias so often; returns the cursors of the events."""
    before = registry.newest_cursor()
    for _ in range(times):
        registry.promote(Reference.parse("ours/a@v1"), "production")
    return list(range(before + 1, before + 1 + times))


def until(registry: Registry, webhook: Webhook, done: Callable[[Webhook], bool], patience: Patience = QUICK) -> Webhook:
    """Deliver until a webhook is as it should be."""
    deliverer, end = Deliverer(registry, patience), time.monotonic() + 20
    while not done(found := registry.webhook(webhook.id)):
        assert time.monotonic() < end, found
        for webhook_id in deliverer.due():
            deliverer.deliver(webhook_id)
        time.sleep(0.01)
    deliverer.close()
    return found


def test_every_event_arrives_once_in_order_signed_and_as_watching_tells_it(
    called: Registry, receiver: Receiver
) -> None:
    made, verify = hook(called, receiver, cursor=0), documented_verify()
    cursors = move(called, 5)
    until(called, made.webhook, lambda now: now.cursor == cursors[-1])
    told = called.on_behalf_of(reader_of("ours")).watch(0).events
    assert [message.document["data"] for message in receiver.received] == [event_document(event) for event in told]
    assert receiver.cursors[-5:] == cursors
    for message in receiver.received:
        verify(made.secret, message.headers, message.body)
        with pytest.raises(ValueError, match="not from"):
            verify(made.secret, message.headers, message.body + b" ")
    history = called.deliveries(made.webhook.id, limit=3)
    assert [(line.cursor, line.state, line.attempts, line.status) for line in history.items] == [
        (cursor, "delivered", 1, 204) for cursor in reversed(cursors[-3:])
    ]
    assert called.deliveries(made.webhook.id, cursor=history.cursor).items[0].cursor == cursors[-4]


def test_what_fails_is_sent_again_under_its_id_and_nothing_overtakes_it(called: Registry, receiver: Receiver) -> None:
    def stall(_handler: BaseHTTPRequestHandler) -> None:
        time.sleep(HASTY.timeout * 2)

    def drip(handler: BaseHTTPRequestHandler) -> None:
        for _ in range(20):
            handler.wfile.write(b"H")
            time.sleep(HASTY.timeout / 5)

    receiver.answers = [500, stall, drip, 301, 404]
    webhook = hook(called, receiver).webhook
    first, second = move(called, 2)
    until(called, webhook, lambda now: now.cursor == second, HASTY)
    times = [receiver.cursors.count(cursor) for cursor in (first, second)]  # more often on a busy machine
    assert times[0] >= 6 and receiver.cursors == [first] * times[0] + [second] * times[1]
    assert len({message.id for message in receiver.received}) == 2
    assert [line.attempts for line in called.deliveries(webhook.id).items] == times[::-1]


def test_pauses_are_kept_and_a_receiver_that_asks_for_more_gets_it(called: Registry, receiver: Receiver) -> None:
    def busy(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(503)
        handler.send_header("Retry-After", "50")
        handler.end_headers()

    receiver.answers = [busy]
    webhook = hook(called, receiver).webhook
    move(called, 1)
    deliverer = Deliverer(called, QUICK)
    assert deliverer.deliver(webhook.id) == 0
    waiting = called.webhook(webhook.id)
    assert waiting.next_at is not None and waiting.error == "it answered 503"
    assert timedelta(seconds=40) < waiting.next_at - called.clock() <= timedelta(seconds=50)
    assert deliverer.due() == [] and deliverer.deliver(webhook.id) == 0
    deliverer.close()


@pytest.mark.parametrize("status", [500, 410])
def test_what_can_not_be_delivered_is_given_up_and_nothing_is_lost(
    called: Registry, receiver: Receiver, status: int
) -> None:
    patience = replace(QUICK, give_up=timedelta(0) if status == 500 else timedelta(days=1))
    receiver.answers = [status]
    webhook = hook(called, receiver).webhook
    cursors = move(called, 2)
    failing = until(called, webhook, lambda now: now.state is WebhookState.FAILING, patience)
    assert failing.error == f"it answered {status}"
    assert called.audit(cursor=cursors[-1])[-1].kind == "webhook.failing"
    assert called.deliveries(webhook.id).items[0].state == "given_up"
    assert Deliverer(called, QUICK).due() == []
    called.replay(webhook.id)
    until(called, webhook, lambda now: now.cursor >= cursors[-1])
    assert receiver.cursors == [cursors[0], *cursors]


def test_messages_are_sent_again_for_whoever_asks(called: Registry, receiver: Receiver) -> None:
    webhook = hook(called, receiver).webhook
    cursors = move(called, 3)
    until(called, webhook, lambda now: now.cursor == cursors[-1])
    ids = [message.id for message in receiver.received]
    called.replay(webhook.id, cursor=cursors[0])
    until(called, webhook, lambda now: now.cursor >= cursors[-1])
    called.replay(webhook.id, delivery=ids[0])
    until(called, webhook, lambda _: len(receiver.received) == 6)
    assert [message.id for message in receiver.received] == [*ids, *ids[1:], ids[0]]
    for wrong in ("msg_0_1", ids[0] + "0", "nothing"):
        with pytest.raises(DeliveryNotFound):
            called.replay(webhook.id, delivery=wrong)
    with pytest.raises(WrongUsage, match="never given"):
        called.replay(webhook.id, cursor=10**6)


def test_a_webhook_hears_what_a_reader_of_its_team_would_and_what_it_wants(
    called: Registry, receiver: Receiver, tmp_path: Path
) -> None:
    everything = hook(called, receiver).webhook
    narrow = hook(called, receiver, kinds=["commit.added"], adapters=["b"]).webhook
    called.set_visibility("ours", public=True)
    for name in ("theirs/a", "ours/a", "ours/b"):
        called.push_folder(write_adapter(tmp_path / name, seed=1), Submission(AdapterName.parse(name), ()))
    called.set_visibility("theirs", public=True)
    newest = called.newest_cursor()
    called.create_token("not for webhooks")
    deliverer = Deliverer(called, QUICK)
    assert sorted(deliverer.due()) == [everything.id, narrow.id]
    assert [deliverer.deliver(webhook.id) for webhook in (everything, narrow)] == [2, 1]
    names = [message.document["data"]["name"] for message in receiver.received]
    assert names == ["ours/a", "ours/b", "ours/b"]
    assert called.webhook(narrow.id).cursor < newest  # what concerns nobody is not written down
    assert deliverer.due() == []
    deliverer.close()


def test_a_new_secret_signs_beside_the_former_one(called: Registry, receiver: Receiver) -> None:
    made, verify = hook(called, receiver), documented_verify()
    fresh = called.rotate_secret(made.webhook.id)
    assert called.test_webhook(made.webhook.id).delivered
    called.rotate_secret(made.webhook.id, overlap=timedelta(0))
    assert called.test_webhook(made.webhook.id).delivered
    both, newest = receiver.received
    for secret in (made.secret, fresh.secret):
        verify(secret, both.headers, both.body)
        with pytest.raises(ValueError, match="not from"):
            verify(secret, newest.headers, newest.body)
    assert both.document["type"] == "ping"


def test_with_the_servers_secret_the_database_holds_nothing_that_signs(called: Registry, receiver: Receiver) -> None:
    plain, verify = hook(called, receiver), documented_verify()
    called.webhook_secrets = WebhookSecrets(b"k" * 32)
    made = hook(called, receiver)
    fresh = called.rotate_secret(plain.webhook.id, overlap=timedelta(0))
    with called.database.reading() as catalog:
        kept = [*catalog.webhooks.secrets(made.webhook.id, called.clock())]
        kept += catalog.webhooks.secrets(plain.webhook.id, called.clock())
    assert not any(key.startswith("whsec_") for key in kept)
    for webhook in (made, fresh):
        assert called.test_webhook(webhook.webhook.id).delivered
        verify(webhook.secret, receiver.received[-1].headers, receiver.received[-1].body)
    called.webhook_secrets = WebhookSecrets(b"another" * 8)
    move(called, 1)
    failed = until(called, made.webhook, lambda now: now.attempts > 0)
    assert "another ADAPTERS_SECRET" in (failed.error or "")
    called.rotate_secret(made.webhook.id)
    assert called.test_webhook(made.webhook.id).delivered


def test_where_a_name_leads_is_judged_when_it_is_connected_to(called: Registry, receiver: Receiver) -> None:
    webhook = called.create_webhook("ours", f"https://localhost:{receiver.port}/").webhook
    called.webhook_targets = "public"
    outcome = called.test_webhook(webhook.id)
    assert outcome.error == "webhooks may not call localhost: it leads to an address that may not be called"
    with pytest.raises(TargetRefused):
        hook(called, receiver)


def test_several_senders_send_every_message_once(called: Registry, receiver: Receiver, database_url: str) -> None:
    webhook = hook(called, receiver).webhook
    cursors = move(called, 10)

    def send() -> None:
        database = Database(database_url)
        registry = Registry(database, called.blobs, webhook_targets="127.0.0.0/8")
        until(registry, webhook, lambda now: now.cursor == cursors[-1])
        database.close()

    senders = [threading.Thread(target=send) for _ in range(3)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert receiver.cursors == cursors


def test_a_sender_that_is_killed_loses_nothing(called: Registry, receiver: Receiver, database_url: str) -> None:
    webhook = hook(called, receiver).webhook
    cursors = move(called, 4)
    killed = threading.Event()
    receiver.answers = [204, lambda _: killed.wait(10)]
    with doomed_sender(database_url, webhook.id, FORGETFUL) as kill:
        receiver.wait_for(2)
        kill()
    killed.set()
    until(called, webhook, lambda now: now.cursor == cursors[-1])
    assert receiver.cursors == [cursors[0], cursors[1], *cursors[1:]]


def test_a_sender_that_was_away_for_too_long_writes_nothing(called: Registry, receiver: Receiver) -> None:
    webhook, at = hook(called, receiver).webhook, called.clock()
    (cursor,) = move(called, 1)
    until_then = at + timedelta(seconds=1)
    with called.database.writing() as catalog:
        claimed = catalog.webhooks.claim(webhook.id, "first", at=at, until=until_then)
        assert claimed is not None
        assert catalog.webhooks.claim(webhook.id, "second", at=at, until=until_then) is None
        later = at + timedelta(seconds=2)
        assert catalog.webhooks.claim(webhook.id, "second", at=later, until=later + timedelta(hours=1)) == claimed
        assert not catalog.webhooks.advance(claimed, "first", cursor=cursor, until=later)
        catalog.webhooks.release(webhook.id, "first")
        assert catalog.webhooks.stirring(later) == []
        catalog.webhooks.rewind(webhook.id, 0)
        assert not catalog.webhooks.advance(claimed, "second", cursor=cursor, until=later)  # nor over a replay
        rewound = catalog.webhooks.find(webhook.id)
        assert rewound is not None and rewound.cursor == 0
        assert catalog.webhooks.advance(rewound, "second", cursor=cursor, until=later)


def test_only_an_admin_of_the_team_has_anything_to_do_with_a_webhook(called: Registry, receiver: Receiver) -> None:
    made = hook(called, receiver).webhook
    for role, refusal in ((Role.MAINTAINER, NotAllowed), (None, WebhookNotFound)):
        other = called.on_behalf_of(Caller("eve", roles={"ours": role} if role else {"theirs": Role.OWNER}))
        assert other.webhooks() == []
        for attempt in (
            other.webhook,
            other.delete_webhook,
            other.rotate_secret,
            other.deliveries,
            other.replay,
            other.test_webhook,
        ):
            with pytest.raises(refusal):
                attempt(made.id)
    assert [one.id for one in called.webhooks("ours")] == [made.id]
    called.delete_webhook(made.id)
    assert hook(called, receiver).webhook.id > made.id  # a number is never given twice
