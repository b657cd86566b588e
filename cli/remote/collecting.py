"""Collections and purges on a server: the methods of `registry.service.collecting` and `purging`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cli.output import Progress
from cli.remote.jobs import Jobs, silent
from cli.remote.rooms import adapter_path, version_path
from registry.domain.reference import AdapterName, Reference

if TYPE_CHECKING:
    from registry.service.collecting import Collection
    from registry.service.purging import Purge


class Collecting(Jobs):
    """Collect, purge."""

    def collect(self, *, grace: timedelta, dry_run: bool = False, progress: Progress = silent) -> "Collection":
        """Let the server remove what nothing refers to."""
        wanted = {"grace": grace.total_seconds(), "dry_run": dry_run}
        answer = self.connection.request("POST", "/v1/collections", json=wanted)
        return self._result(self._accepted(answer.document), _collection, progress)

    def purge(self, reference: Reference, *, reason: str, force: bool = False) -> "Purge":
        """Purge a version."""
        return self._purge(version_path(reference), reason, force)

    def purge_adapter(self, name: AdapterName, *, reason: str, force: bool = False) -> "Purge":
        """Delete an adapter and purge all that it ever had."""
        return self._purge(adapter_path(name), reason, force)

    def _purge(self, path: str, reason: str, force: bool) -> "Purge":
        answer = self.connection.request("POST", f"{path}/purge", json={"reason": reason, "force": force})
        return self._read(_purged, answer.document)


def _collection(document: Mapping[str, Any]) -> "Collection":
    from registry.service.collecting import Collection  # lazy: start-up time

    counts = (int(document[key]) for key in ("blobs", "bytes", "unknown", "waiting", "waiting_bytes"))
    return Collection(bool(document["dry_run"]), float(document["grace"]), *counts)


def _purged(document: Mapping[str, Any]) -> "Purge":
    from registry.service.purging import Purge  # lazy: start-up time

    counts = (int(document[key]) for key in ("blobs", "bytes", "kept"))
    return Purge(str(document["subject"]), *counts)
