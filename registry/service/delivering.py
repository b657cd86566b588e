"""Delivering: events become messages to webhooks, each webhook's in order, each at least once.

Whoever delivers holds the webhook's lease, so any number of servers may try: one does. A message that can't be
delivered is tried again, with pauses that grow; until then nothing that came after it is sent. When that has lasted
too long the webhook is failing, and waits for somebody to ask for a replay. A server that dies in between leaves the
lease to end by itself, and the message to the next one. While there is nothing to send, nothing is written.
"""

import json
import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from registry.domain.records import Event
from registry.domain.webhooks import DeliveryState, Outcome, Patience, Webhook, WebhookState, message_of
from registry.service import Registry
from registry.service.webhooks import reader_of
from registry.sql.catalog import Catalog

SENDERS = 8  # webhooks that are sent to at once
_IN_A_ROW = 100  # messages to one webhook before others get their turn
_REST = 5.0  # seconds without a webhook for which something of ours failed, the database for instance
_FAR_BEHIND = 1000  # events that don't concern a webhook, after which its place is written down anew

_log = logging.getLogger("adapters.webhooks")


@dataclass(slots=True)
class _Turn:
    """One sender's time with a webhook: under a lease, with the events that were read ahead."""

    webhook: Webhook
    lease: str
    ahead: deque[Event] = field(default_factory=deque)
    seen: int = 0  # the last event that was looked at


@dataclass(frozen=True, slots=True)
class _Next:
    """What is sent next; `asked` if somebody asked for it again."""

    event: Event
    keys: tuple[str, ...]
    asked: bool


class Deliverer:
    """Sends what is due. Safe between threads; any number of them may work on one database."""

    def __init__(
        self,
        registry: Registry,
        patience: Patience | None = None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._registry = registry
        self._patience = patience or Patience()
        self._chance = chance
        self._senders = ThreadPoolExecutor(SENDERS, thread_name_prefix="webhook")
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[int] = set()
        self._rests: dict[int, float] = {}  # webhook -> until when, on the monotonic clock, after our own failure
        self._passed: dict[int, tuple[int, int]] = {}  # webhook -> its cursor, and up to where nothing concerns it

    def start_due(self) -> None:
        """Begin to send for every webhook that has something due and isn't sent to."""
        for webhook_id in self.due():
            with self._lock:
                rests = time.monotonic() < self._rests.get(webhook_id, 0.0)
                if rests or webhook_id in self._busy or self._ending.is_set():
                    continue
                self._busy.add(webhook_id)
            self._senders.submit(self.deliver, webhook_id).add_done_callback(self._ended(webhook_id))

    def due(self) -> list[int]:
        """The webhooks that have something to be sent now."""
        with self._registry.database.reading() as catalog:
            stirring = catalog.webhooks.stirring(self._registry.clock())
            newest = catalog.events.last()
        return [
            webhook.id for webhook, asked in stirring if asked or webhook.attempts or self._concerns(webhook, newest)
        ]

    def deliver(self, webhook_id: int) -> int:
        """Send what is due for a webhook, unless somebody else does; returns how many messages arrived."""
        turn = self._claim(webhook_id)
        if turn is None:
            return 0
        arrived = 0
        try:
            while arrived < _IN_A_ROW and not self._ending.is_set() and (following := self._next(turn)):
                if not self._send(turn, following):
                    break
                arrived += 1
        finally:
            with self._registry.database.writing() as catalog:
                catalog.webhooks.release(webhook_id, turn.lease)
        return arrived

    def end(self) -> None:
        """Begin nothing more."""
        self._ending.set()

    def close(self) -> None:
        """Begin nothing more, and wait for what is under way."""
        self.end()
        self._senders.shutdown(wait=True, cancel_futures=True)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _ended(self, webhook_id: int) -> Callable[[Future[int]], None]:
        def note(done: Future[int]) -> None:
            error = None if done.cancelled() else done.exception()
            with self._lock:
                self._busy.discard(webhook_id)
                self._rests[webhook_id] = time.monotonic() + _REST if error else 0.0
            if error:
                _log.error(json.dumps({"event": "webhook.interrupted", "webhook": webhook_id, "error": str(error)}))

        return note

    def _concerns(self, webhook: Webhook, newest: int) -> bool:
        """Whether any of the next events is for a webhook; how far nothing is, is kept in mind."""
        cursor, passed = self._passed.get(webhook.id, (webhook.cursor, webhook.cursor))
        passed = passed if cursor == webhook.cursor else webhook.cursor
        if passed >= newest:
            return False
        found = self._registry.on_behalf_of(reader_of(webhook.team)).watch(passed)
        if any(map(webhook.wants, found.events)):
            return True
        self._passed[webhook.id] = (webhook.cursor, found.cursor)
        if found.cursor - webhook.cursor >= _FAR_BEHIND:
            with self._registry.database.writing() as catalog:
                catalog.webhooks.pass_over(webhook, found.cursor)
        return False

    def _claim(self, webhook_id: int) -> _Turn | None:
        lease, at = secrets.token_hex(8), self._registry.clock()
        with self._registry.database.writing() as catalog:
            webhook = catalog.webhooks.claim(webhook_id, lease, at=at, until=at + self._patience.lease)
        return None if webhook is None else _Turn(webhook, lease, seen=webhook.cursor)

    def _next(self, turn: _Turn) -> _Next | None:
        """What to send: what was asked for again first, then the next event in line."""
        with self._registry.database.reading() as catalog:
            keys = tuple(catalog.webhooks.secrets(turn.webhook.id, self._registry.clock()))
            asked = catalog.deliveries.asked_for(turn.webhook)
            event = None if asked is None else catalog.events.at(asked)
        if event is not None:
            return _Next(event, keys, asked=True)
        event = self._in_line(turn)
        return None if event is None or not keys else _Next(event, keys, asked=False)

    def _in_line(self, turn: _Turn) -> Event | None:
        reader = self._registry.on_behalf_of(reader_of(turn.webhook.team))
        while not turn.ahead:
            found = reader.watch(turn.seen)
            if found.cursor == turn.seen:
                return None
            turn.ahead.extend(filter(turn.webhook.wants, found.events))
            turn.seen = found.cursor
        return turn.ahead[0]

    def _send(self, turn: _Turn, following: _Next) -> bool:
        """Send a message and write down what came of it; False if the turn ends with it."""
        message = message_of(turn.webhook, following.event)
        began = self._registry.clock()
        outcome = self._registry.send(turn.webhook, message, following.keys, timeout=self._patience.timeout)
        with self._registry.database.writing() as catalog:
            if outcome.delivered:
                return self._note_arrival(catalog, turn, following, outcome)
            self._note_failure(catalog, turn, following, outcome, began=began)
        return False

    def _note_arrival(self, catalog: Catalog, turn: _Turn, following: _Next, outcome: Outcome) -> bool:
        webhook, at = turn.webhook, self._registry.clock()
        cursor = webhook.cursor if following.asked else following.event.cursor
        if not catalog.webhooks.advance(webhook, turn.lease, cursor=cursor, until=at + self._patience.lease):
            return False
        catalog.deliveries.note(webhook, following.event, DeliveryState.DELIVERED, outcome, at=at)
        if not following.asked:
            turn.ahead.popleft()
        turn.webhook = replace(webhook, cursor=cursor, attempts=0, failed_since=None)
        return True

    def _note_failure(
        self, catalog: Catalog, turn: _Turn, following: _Next, outcome: Outcome, *, began: datetime
    ) -> None:
        webhook, at, error = turn.webhook, self._registry.clock(), outcome.error or ""
        since = webhook.failed_since or began
        over = outcome.unwanted or at - since >= self._patience.give_up
        pause = self._patience.wait(webhook.attempts + 1, self._chance())
        until = at + max(pause, timedelta(seconds=outcome.wait))
        state = WebhookState.FAILING if over else WebhookState.ACTIVE
        if not catalog.webhooks.postpone(webhook, turn.lease, state=state, since=since, until=until, error=error):
            return
        again = DeliveryState.REPLAYING if following.asked else DeliveryState.RETRYING
        catalog.deliveries.note(webhook, following.event, DeliveryState.GIVEN_UP if over else again, outcome, at=at)
        if over:
            facts = {"webhook": webhook.id, "team": webhook.team, "error": error}
            catalog.events.append("webhook.failing", None, facts, actor=self._registry.actor)
            _log.warning(json.dumps({"event": "webhook.failing", **facts}))
