"""Figures of a registry at work: what waits, what is under way, what went wrong. Gathered for whoever watches it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """How a registry fares.

    `jobs` and `webhooks` are numbers by state. `job_seconds` is by state what the newest jobs took on average, from
    start to end; `oldest_queued` how long (seconds) the oldest job waits that has not begun. `deliveries` are messages
    that a webhook has not taken yet, `behind` the most events that one that is sent to has still in front of it.
    """

    jobs: Mapping[str, int]
    job_seconds: Mapping[str, float]
    oldest_queued: float
    webhooks: Mapping[str, int]
    deliveries: int
    behind: int
    uploads: int
    upload_bytes: int
