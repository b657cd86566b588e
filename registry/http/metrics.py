"""Figures for Prometheus: requests by route, method and status, how long they took, how many are under way.

Labels are templates of routes, never names of adapters: their number is bounded. With several workers the figures are
added up in a folder that all of them write to; without one, each worker tells its own. What is counted often is put
there together, by `flush`: writing to the folder costs more than a kept answer. Figures of the registry (backlog.py)
are the same in all workers, and never added up.
"""

from collections import Counter as Counts

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """The figures of one worker, or with a folder those of all."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        labels = ("method", "route", "status")
        self._requests = Counter("adapters_http_requests", "Requests", labels, registry=self._registry)
        self._seconds = Histogram(
            "adapters_http_request_seconds",
            "Seconds from a request's first byte to its answer's last",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._gauge = Gauge(
            "adapters_http_requests_in_flight",
            "Requests under way",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self.in_flight = 0
        self._counts: Counts[tuple[str, str, int]] = Counts()
        self._timers: dict[tuple[str, str], Histogram] = {}
        self._shared = CollectorRegistry()

    def add(self, collector: Collector) -> None:
        """Tell also of what every worker would tell alike: it is never added up."""
        self._shared.register(collector)

    def count(self, method: str, route: str, status: int, *, seconds: float) -> None:
        """Count a request that is over."""
        method = method if method in _METHODS else "other"
        self._counts[method, route, status] += 1
        timer = self._timers.get((method, route))
        if timer is None:
            timer = self._timers[method, route] = self._seconds.labels(method, route)
        timer.observe(seconds)

    def flush(self) -> None:
        """Show what was counted."""
        counts, self._counts = self._counts, Counts()
        for (method, route, status), number in counts.items():
            self._requests.labels(method, route, str(status)).inc(number)
        self._gauge.set(self.in_flight)

    def text(self) -> bytes:
        """All figures, in Prometheus's text format; this worker's up to now, the others' up to their last flush."""
        self.flush()
        return self._requests_text() + generate_latest(self._shared)

    def _requests_text(self) -> bytes:
        if self._folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)
