"""Figures for Prometheus: requests by route, method and status, how long they took, how many are under way.

Labels are templates of routes, never names of adapters: their number is bounded. With several workers the figures are
added up in a folder that all of them write to; without one, each worker tells its own.
"""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

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
        self.in_flight = Gauge(
            "adapters_http_requests_in_flight",
            "Requests under way",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._bound: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count(self, method: str, route: str, status: int, *, seconds: float) -> None:
        """Count a request that is over."""
        key = (method if method in _METHODS else "other", route, status)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._requests.labels(key[0], route, str(status)), self._seconds.labels(key[0], route)
            self._bound[key] = bound
        bound[0].inc()
        bound[1].observe(seconds)

    def text(self) -> bytes:
        """All figures, in Prometheus's text format."""
        if self._folder is None:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together, path=self._folder)  # type: ignore[no-untyped-call]
        return generate_latest(together)
