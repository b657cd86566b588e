"""Adapters and quotas on a server: the methods of `registry.service.editing` and `quotas`, and clearing uploads."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

from cli.remote.rooms import Room, adapter_path, part
from registry.domain import from_documents as records
from registry.domain.records import Adapter
from registry.domain.reference import AdapterName

if TYPE_CHECKING:
    from registry.domain.quotas import Account, Quota


class Editing(Room):
    """Describe and delete adapters, show and set quotas."""

    def adapter(self, name: AdapterName) -> Adapter:
        """One adapter line."""
        return self._read(records.adapter, self.connection.get(adapter_path(name)))

    def edit_adapter(
        self,
        name: AdapterName,
        *,
        description: str | None = None,
        metadata: Mapping[str, str | None] | None = None,
    ) -> Adapter:
        """Change an adapter's description, and entries of its metadata."""
        wanted = {"description": description, "metadata": dict(metadata or {})}
        return self._read(records.adapter, self.connection.request("PATCH", adapter_path(name), json=wanted).document)

    def delete_adapter(self, name: AdapterName, *, reason: str, force: bool = False) -> Adapter:
        """Delete an adapter."""
        asked: dict[str, str | int] = {"reason": reason, "force": force}
        return self._read(records.adapter, self.connection.request("DELETE", adapter_path(name), query=asked).document)

    def quota(self, team: str) -> "Account":
        """A team's quota and what it has."""
        from registry.domain.quotas import account_of  # lazy: start-up time

        return self._read(account_of, self.connection.get(f"/v1/teams/{part(team)}/quota"))

    def set_quota(self, team: str, quota: "Quota") -> "Account":
        """Put a quota in the place of a team's own."""
        from registry.domain.quotas import account_of  # lazy: start-up time

        path = f"/v1/teams/{part(team)}/quota"
        return self._read(account_of, self.connection.request("PUT", path, json=asdict(quota)).document)

    def expire_uploads(self, older_than: timedelta) -> int:
        """Forget uploads from before so long; how many there were."""
        wanted = {"days": older_than / timedelta(days=1)}
        document = self.connection.request("POST", "/v1/uploads/expire", json=wanted).document
        return self._read(lambda found: int(found["expired"]), document)
