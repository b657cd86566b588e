"""What a server does by itself: once, whoever of many does it, and until it is asked to end."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from registry.domain.reference import AdapterName, Reference
from registry.domain.webhooks import Patience
from registry.service import Registry
from registry.service.core import now
from registry.service.delivering import Deliverer
from registry.service.publishing import Submission
from registry.service.upkeep import COLLECT_EVERY, DELIVERIES_KEPT, TIDY_EVERY, Upkeep, collect, tidy
from registry.service.uploads import KEPT
from tests.factories import write_adapter
from tests.receivers import Receiver, receiver

__all__ = ["receiver"]


def at(registry: Registry, later: timedelta) -> Registry:
    """The registry as it will be."""
    targets = registry.webhook_targets
    return Registry(registry.database, registry.blobs, clock=lambda: now() + later, webhook_targets=targets)


def test_old_uploads_are_cleared_once_an_hour_by_one_of_many_servers(registry: Registry) -> None:
    with ThreadPoolExecutor(4) as servers:
        assert sum(servers.map(lambda _: tidy(registry), range(4))) == 1
    upload = registry.begin_upload("ours", "1" * 64, 5).upload
    assert upload is not None
    part = registry.open_part(upload.id, 1)
    part.write(b"fives")
    part.finish()
    part.close()
    assert not tidy(at(registry, TIDY_EVERY / 2))
    assert tidy(at(registry, TIDY_EVERY + timedelta(minutes=1)))
    assert len(list(registry.blobs.staged())) == 1
    assert tidy(at(registry, KEPT + timedelta(days=1)))
    assert list(registry.blobs.staged()) == []


def test_what_nothing_refers_to_is_collected_once_a_day_by_one_of_many_servers(registry: Registry) -> None:
    sent = registry.blobs.ingest(lambda: [b"sent and never published"])
    with registry.database.writing() as catalog:
        catalog.blobs.register("ours", [(sent.sha256, sent.size)], at=registry.clock(), actor="ann")
    other = registry.blobs.ingest(lambda: [b"of another registry, in the same store by mistake"])
    with ThreadPoolExecutor(4) as servers:
        assert sum(servers.map(lambda _: collect(registry), range(4))) == 1
    assert not collect(at(registry, COLLECT_EVERY / 2))
    assert len(list(registry.blobs.list())) == 2
    assert collect(at(registry, COLLECT_EVERY + timedelta(minutes=1)))
    assert [stat.sha256 for stat in registry.blobs.list()] == [other.sha256]


def test_the_thread_delivers_until_it_is_stopped_and_forgets_what_is_old(
    registry: Registry, receiver: Receiver, tmp_path: Path
) -> None:
    registry.webhook_targets = "127.0.0.0/8"
    registry.push_folder(write_adapter(tmp_path), Submission(AdapterName("ours", "a"), ()))
    webhook = registry.create_webhook("ours", receiver.url).webhook
    slow = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        slow.wait(10)
        handler.send_response(200)
        handler.end_headers()

    receiver.answers = [answer]
    upkeep = Upkeep(registry, Patience(), look_every=0.02)
    upkeep.start()
    registry.promote(Reference.parse("ours/a@v1"), "production")
    receiver.wait_for(1)
    upkeep.end()
    registry.promote(Reference.parse("ours/a@v1"), "production")
    slow.set()
    upkeep.stop()
    assert [line.state for line in registry.deliveries(webhook.id).items] == ["delivered"]  # it ended what it had begun
    assert Deliverer(registry).due() == [webhook.id]  # and left the rest, with no lease in the way
    assert tidy(at(registry, DELIVERIES_KEPT + timedelta(days=1)))
    assert registry.deliveries(webhook.id).items == ()


def test_nothing_is_written_while_there_is_nothing_to_do(registry: Registry, receiver: Receiver) -> None:
    registry.create_team("ours")
    registry.webhook_targets = "127.0.0.0/8"
    registry.create_webhook("ours", receiver.url, kinds=["alias.moved"])
    registry.create_team("theirs")
    before = registry.changes.mark()
    upkeep = Upkeep(registry, look_every=0.01)
    upkeep.start()
    time.sleep(0.2)
    upkeep.stop()
    assert registry.changes.mark() == before
