"""Webhooks on a server: the methods of `registry.service.webhooks`."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from cli.remote.rooms import Room

if TYPE_CHECKING:
    from registry.domain.records import Page
    from registry.domain.webhooks import Delivery, Outcome, Webhook
    from registry.service.webhooks import NewWebhook

_PATH = "/v1/webhooks"


class Webhooks(Room):
    """Make, show, try and delete webhooks; have messages sent again."""

    def create_webhook(
        self,
        team: str,
        url: str,
        *,
        kinds: Collection[str] | None = None,
        adapters: Collection[str] | None = None,
        description: str = "",
        cursor: int | None = None,
    ) -> "NewWebhook":
        """Tell a URL of a team's events."""
        wanted = {
            "team": team,
            "url": url,
            "kinds": None if kinds is None else list(kinds),
            "adapters": None if adapters is None else list(adapters),
            "description": description,
            "cursor": cursor,
        }
        return self._new(self.connection.request("POST", _PATH, json=wanted).document)

    def webhooks(self, team: str | None = None) -> "list[Webhook]":
        """A team's webhooks, or those of every team that one is an admin of."""
        from registry.domain.webhook_documents import webhook_of  # lazy: start-up time

        return self._listed("webhooks", webhook_of, self.connection.get(_PATH, {"team": team}))

    def webhook(self, webhook_id: int) -> "Webhook":
        """One webhook."""
        from registry.domain.webhook_documents import webhook_of  # lazy: start-up time

        return self._read(webhook_of, self.connection.get(f"{_PATH}/{webhook_id}"))

    def delete_webhook(self, webhook_id: int) -> None:
        """Forget a webhook."""
        self.connection.request("DELETE", f"{_PATH}/{webhook_id}")

    def rotate_secret(self, webhook_id: int) -> "NewWebhook":
        """Give a webhook a new secret; the former one signs along for a day."""
        return self._new(self.connection.request("POST", f"{_PATH}/{webhook_id}/secret", json={}).document)

    def deliveries(self, webhook_id: int, *, cursor: str | None = None, limit: int = 100) -> "Page[Delivery]":
        """What became of a webhook's messages, newest event first."""
        from registry.domain.webhook_documents import deliveries_of  # lazy: start-up time

        found = self.connection.get(f"{_PATH}/{webhook_id}/deliveries", {"cursor": cursor, "limit": limit})
        return self._read(deliveries_of, found)

    def replay(self, webhook_id: int, *, cursor: int | None = None, delivery: str | None = None) -> "Webhook":
        """Have a message sent again, or all after a cursor, or go on where it was given up."""
        from registry.domain.webhook_documents import webhook_of  # lazy: start-up time

        wanted = {"cursor": cursor, "delivery": delivery}
        return self._read(
            webhook_of, self.connection.request("POST", f"{_PATH}/{webhook_id}/replay", json=wanted).document
        )

    def test_webhook(self, webhook_id: int) -> "Outcome":
        """Let the server send a message that tells of nothing, once and now."""
        from registry.domain.webhook_documents import outcome_of  # lazy: start-up time

        return self._read(outcome_of, self.connection.request("POST", f"{_PATH}/{webhook_id}/test").document)

    def _new(self, document: Any) -> "NewWebhook":
        from registry.domain.webhook_documents import webhook_of  # lazy: start-up time
        from registry.service.webhooks import NewWebhook  # lazy: start-up time

        return self._read(lambda found: NewWebhook(webhook_of(found), str(found["secret"])), document)
