"""Webhooks: a team's wish to be told of its events, what came of it, and asking for messages again.

What a webhook is told is what a reader of its team, and of no other, would be told by `watch`.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta

from registry.domain.errors import DeliveryNotFound, TeamNotFound, WebhookNotFound, WrongUsage
from registry.domain.records import Page
from registry.domain.reference import AdapterName
from registry.domain.rights import Caller, Role, Scope
from registry.domain.texts import MAX_KEY, check_text
from registry.domain.webhooks import (
    Delivery,
    Message,
    Outcome,
    Patience,
    Webhook,
    WebhookState,
    ping_of,
    signed_headers,
)
from registry.service.core import UseCases
from registry.service.watching import WATCHED
from registry.sql.catalog import Catalog

_OTHER_KEY = "its secret was made with another ADAPTERS_SECRET than this server has: `adapters webhooks rotate` it"
OVERLAP = timedelta(days=1)  # how long a secret signs along after it was replaced
_MOST = 100  # webhooks of a team, and names that one of them is limited to


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook and its secret: this is the only time that anybody sees it."""

    webhook: Webhook
    secret: str


def reader_of(team: str) -> Caller:
    """Who a team's webhook is, when it comes to what it may see."""
    key = team.lower()
    return Caller("webhook", frozenset({Scope.READ}), frozenset({key}), False, {key: Role.READER})


class Webhooks(UseCases):
    """Make, show, try and delete webhooks; have messages sent again. All of it takes an admin of the team."""

    def create_webhook(
        self,
        team: str,
        url: str,
        *,
        kinds: Collection[str] | None = None,
        adapters: Collection[str] | None = None,
        description: str = "",
        cursor: int | None = None,
    ) -> NewWebhook:
        """Tell a URL of a team's events, from now on or after an earlier event.

        `kinds` and `adapters` (as name or team/name) limit what it is told. Raises WrongUsage, TargetRefused,
        NotAllowed, TeamNotFound.
        """
        host = self._check_target(url)
        check_text("the description", description, MAX_KEY)
        with self.database.writing() as catalog:
            self.require_team(catalog, team, Scope.ADMIN)
            found = catalog.teams.find(team)
            if found is None:
                raise TeamNotFound(team)
            if len(catalog.webhooks.list(team)) >= _MOST:
                raise WrongUsage(f"the team {team} has {_MOST} webhooks, which is as many as it may have")
            webhook = Webhook(
                id=0,  # the catalog gives it
                uid=secrets.token_hex(8),
                team=found.name,
                url=url,
                description=description,
                kinds=_kinds(kinds),
                adapters=_adapters(found.name, adapters),
                state=WebhookState.ACTIVE,
                cursor=_given(catalog, cursor),
                attempts=0,
                failed_since=None,
                next_at=None,
                error=None,
                actor=self.actor,
                created_at=self.clock(),
            )
            kept, secret = self.webhook_secrets.make()
            made = catalog.webhooks.add(webhook, kept)
            # Not the URL: what stands behind the host may be a secret of the receiver's.
            self._log(catalog, "webhook.created", made, host=host)
        return NewWebhook(made, secret)

    def webhooks(self, team: str | None = None) -> list[Webhook]:
        """A team's webhooks, or those of every team that the caller is an admin of. Raises NotAllowed, TeamNotFound."""
        with self.database.reading() as catalog:
            if team is not None:
                self.require_team(catalog, team, Scope.ADMIN)
                if catalog.teams.find(team) is None:
                    raise TeamNotFound(team)
            return [one for one in catalog.webhooks.list(team) if self.caller.may(Scope.ADMIN, one.team)]

    def webhook(self, webhook_id: int) -> Webhook:
        """One webhook. Raises WebhookNotFound, NotAllowed."""
        with self.database.reading() as catalog:
            return self._own(catalog, webhook_id)

    def delete_webhook(self, webhook_id: int) -> None:
        """Forget a webhook; what is on its way may still arrive. Raises WebhookNotFound, NotAllowed."""
        with self.database.writing() as catalog:
            webhook = self._own(catalog, webhook_id)
            catalog.webhooks.delete(webhook_id)
            self._log(catalog, "webhook.deleted", webhook)

    def rotate_secret(self, webhook_id: int, *, overlap: timedelta = OVERLAP) -> NewWebhook:
        """Give a webhook a new secret; messages are signed with the former one as well for so long.

        Raises WebhookNotFound, NotAllowed, WrongUsage.
        """
        if not timedelta(0) <= overlap <= timedelta(days=30):
            raise WrongUsage("a former secret signs along for up to 30 days")
        kept, secret = self.webhook_secrets.make()
        with self.database.writing() as catalog:
            webhook = self._own(catalog, webhook_id)
            catalog.webhooks.rotate(webhook_id, kept, until=self.clock() + overlap)
            self._log(catalog, "webhook.rotated", webhook)
        return NewWebhook(webhook, secret)

    def deliveries(self, webhook_id: int, *, cursor: str | None = None, limit: int = 100) -> Page[Delivery]:
        """What became of a webhook's messages, newest event first. Raises WebhookNotFound, NotAllowed."""
        with self.database.reading() as catalog:
            return catalog.deliveries.list(self._own(catalog, webhook_id), cursor=cursor, limit=limit)

    def replay(self, webhook_id: int, *, cursor: int | None = None, delivery: str | None = None) -> Webhook:
        """Have a message sent again, or all after a cursor, or (neither) go on where it was given up.

        Messages keep their ids. A failing webhook is active again. Raises WebhookNotFound, NotAllowed,
        DeliveryNotFound, WrongUsage.
        """
        if cursor is not None and delivery is not None:
            raise WrongUsage("name a delivery or a cursor, not both")
        with self.database.writing() as catalog:
            webhook = self._own(catalog, webhook_id)
            if delivery is not None:
                event = _event_of(webhook, delivery)
                if not catalog.deliveries.replay(webhook, event):
                    raise DeliveryNotFound(webhook_id, delivery)
            catalog.webhooks.rewind(webhook_id, None if cursor is None else _given(catalog, cursor))
            self._log(catalog, "webhook.replay", webhook, cursor=cursor, delivery=delivery)
            return self._own(catalog, webhook_id)

    def test_webhook(self, webhook_id: int) -> Outcome:
        """Send a webhook a message that tells of nothing, once and now. Raises WebhookNotFound, NotAllowed."""
        with self.database.reading() as catalog:
            webhook = self._own(catalog, webhook_id)
            kept = catalog.webhooks.secrets(webhook_id, self.clock())
        return self.send(webhook, ping_of(webhook, self.clock()), kept, timeout=Patience().timeout)

    def send(self, webhook: Webhook, message: Message, kept: Sequence[str], *, timeout: float) -> Outcome:
        """One attempt at a message, signed now with the secrets that are kept so."""
        from registry.domain.targets import Targets  # lazy: start-up time
        from registry.outbound.post import post  # lazy: start-up time

        keys = self.webhook_secrets.open(kept)
        if not keys:
            return Outcome(None, _OTHER_KEY, 0)
        headers = signed_headers(message, keys, self.clock())
        targets = Targets.parse(self.webhook_targets)
        return post(webhook.url, message.body, headers, targets=targets, timeout=timeout)

    # -- parts --------------------------------------------------------------------------------------------------------

    def _check_target(self, url: str) -> str:
        from registry.domain.targets import Targets  # lazy: start-up time

        return Targets.parse(self.webhook_targets).check(url).host

    def _own(self, catalog: Catalog, webhook_id: int) -> Webhook:
        """A webhook of a team that the caller is an admin of; of a team that it may not read it isn't told."""
        webhook = catalog.webhooks.find(webhook_id)
        if webhook is None or not self._may(catalog, Scope.READ, webhook.team):
            raise WebhookNotFound(webhook_id)
        self.require_team(catalog, webhook.team, Scope.ADMIN)
        return webhook

    def _log(self, catalog: Catalog, kind: str, webhook: Webhook, **facts: object) -> None:
        catalog.events.append(kind, None, {"webhook": webhook.id, "team": webhook.team, **facts}, actor=self.actor)


def _kinds(kinds: Collection[str] | None) -> tuple[str, ...] | None:
    if kinds is None:
        return None
    if unknown := sorted(set(kinds) - WATCHED):
        raise WrongUsage(
            f"nothing of the kind {unknown[0][:80]!r} happens here; there are {', '.join(sorted(WATCHED))}"
        )
    if not kinds:
        raise WrongUsage("a webhook that hears of no kind of event is of no use")
    return tuple(sorted(set(kinds)))


def _adapters(team: str, adapters: Collection[str] | None) -> tuple[str, ...] | None:
    if adapters is None:
        return None
    names = [AdapterName.parse(text if "/" in text else f"{team}/{text}") for text in adapters]
    for name in names:
        if name.team.lower() != team.lower():
            raise WrongUsage(f"{name} is not of the team {team}: a webhook hears of its own team only")
    if not 0 < len(names) <= _MOST:
        raise WrongUsage(f"a webhook is limited to between 1 and {_MOST} adapters, or not at all")
    return tuple(sorted({str(name) for name in names}))


def _given(catalog: Catalog, cursor: int | None) -> int:
    newest = catalog.events.last()
    if cursor is not None and not 0 <= cursor <= newest:
        raise WrongUsage(f"the cursor {cursor} was never given: the newest one is {newest}")
    return newest if cursor is None else cursor


def _event_of(webhook: Webhook, delivery: str) -> int:
    """The cursor of the event that a message tells of. Raises DeliveryNotFound."""
    digits = delivery.rpartition("_")[2]
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise DeliveryNotFound(webhook.id, delivery)
    if webhook.message_id(int(digits)) != delivery:
        raise DeliveryNotFound(webhook.id, delivery)
    return int(digits)
