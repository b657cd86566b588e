"""What waits and what is under way, for Prometheus: asked of the database, and kept for a few seconds.

Every worker of every server tells the same: these are figures of the registry, never to be added up. While the
database can't be reached they are left out, so that nobody takes old ones for new.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from registry.domain.errors import AdaptersError
from registry.domain.figures import Figures

KEPT = 5.0  # seconds for which the database isn't asked again


class Backlog(Collector):
    """The figures of a registry; `ask` is the question to it."""

    def __init__(self, ask: Callable[[], Figures], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: Figures | None = None
        self._asked_at = float("-inf")

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing: whoever is registered must not ask the database for it."""
        yield from ()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures, if there are any."""
        figures = self._figures()
        if figures is not None:
            yield from _families(figures)

    def _figures(self) -> Figures | None:
        with self._lock:
            if self._clock() - self._asked_at >= KEPT:
                try:
                    self._kept = self._ask()
                except AdaptersError:
                    self._kept = None
                self._asked_at = self._clock()
            return self._kept


def _families(figures: Figures) -> Iterator[GaugeMetricFamily]:
    yield _by_state("adapters_jobs", "Jobs; those that have ended for 30 days", figures.jobs)
    yield _by_state(
        "adapters_job_seconds",
        "Seconds that the newest 100 jobs took on average, from start to end",
        figures.job_seconds,
    )
    yield _one("adapters_jobs_oldest_queued_seconds", "How long the oldest queued job waits", figures.oldest_queued)
    yield _by_state("adapters_webhooks", "Webhooks", figures.webhooks)
    yield _one("adapters_webhook_deliveries_waiting", "Messages that a webhook has not taken yet", figures.deliveries)
    yield _one("adapters_webhook_events_behind", "Events that the slowest active webhook has before it", figures.behind)
    yield _one("adapters_uploads_open", "Uploads that nobody has finished", figures.uploads)
    yield _one("adapters_uploads_open_bytes", "Bytes that these are to have", figures.upload_bytes)


def _one(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, meaning, value=value)


def _by_state(name: str, meaning: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=["state"])
    for state, value in values.items():
        family.add_metric([state], value)
    return family
