"""What a server does by itself: a thread delivers webhooks and, once an hour, clears away what nobody finished; another
one collects what nothing refers to, once a day, and reads every stored byte once a month.

Every server of a registry may run one, each of its workers too: what is to be done is taken on in the database first.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta

from registry.domain.errors import AdaptersError
from registry.domain.webhooks import Patience
from registry.service import Registry
from registry.service.core import Progress, silent
from registry.service.delivering import Deliverer
from registry.service.quotas import recount

LOOK_EVERY = 0.5  # seconds between two looks for something to deliver
TIDY_EVERY = timedelta(hours=1)
DELIVERIES_KEPT = timedelta(days=30)
_FIRST_TIDY = 60.0  # seconds after the start, and between two looks whether it is time
_TIDY = "tidy"
_COLLECT = "collect"
COLLECT_EVERY = timedelta(days=1)

_log = logging.getLogger("adapters.upkeep")


def tidy(registry: Registry, *, every: timedelta = TIDY_EVERY) -> bool:
    """Forget uploads and deliveries of long ago, unless some server did so lately; returns whether it was done."""
    at = registry.clock()
    with registry.database.reading() as catalog:
        last = catalog.upkeep.last().get(_TIDY)
    if last is not None and last >= at - every:
        return False
    with registry.database.writing() as catalog:
        if not catalog.upkeep.take(_TIDY, before=at - every, at=at):
            return False
        forgotten = catalog.deliveries.forget_before(at - DELIVERIES_KEPT)
    uploads = registry.expire_uploads()
    _recount(registry)
    if forgotten or uploads:
        _log.info(json.dumps({"event": "tidied", "uploads": uploads, "deliveries": forgotten}))
    return True


def collect(registry: Registry, *, every: timedelta = COLLECT_EVERY, progress: Progress = silent) -> bool:
    """Remove what nothing refers to, unless some server did so lately; returns whether it was done.

    What isn't in the catalog stays: whether it is anybody else's is for people to know (`adapters gc`).
    """
    at = registry.clock()
    with registry.database.reading() as catalog:
        last = catalog.upkeep.last().get(_COLLECT)
    if last is not None and last >= at - every:
        return False
    with registry.database.writing() as catalog:
        if not catalog.upkeep.take(_COLLECT, before=at - every, at=at):
            return False
    done = registry.collect(listed=False, progress=progress)
    if done.blobs:
        _log.info(json.dumps({"event": "collected", "blobs": done.blobs, "bytes": done.bytes}))
    return True


def _recount(registry: Registry) -> None:
    """Count the bytes of teams with quotas anew, where they are not what was kept up."""
    with registry.database.reading() as catalog:
        kept = {team: catalog.quotas.find(team) for team in catalog.quotas.teams()}
        off = [team for team, held in kept.items() if held and held.kept != catalog.quotas.count_bytes(team)]
    for team in off:
        with registry.database.writing() as catalog:
            recount(catalog, team)


class _Ended(Exception):
    """The server ends; what was begun is gone on with by the next one."""


class Upkeep:
    """The threads. Nothing that goes wrong ends it; it is logged once, until something else goes wrong."""

    def __init__(self, registry: Registry, patience: Patience | None = None, *, look_every: float = LOOK_EVERY) -> None:
        self._registry = registry
        self._deliverer = Deliverer(registry, patience)
        self._look_every = look_every
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, name="upkeep", daemon=True),
            threading.Thread(target=self._care, name="care", daemon=True),
        ]
        self._told = ""

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Begin nothing more."""
        self._ending.set()
        self._deliverer.end()

    def stop(self) -> None:
        """Begin nothing more, and wait for messages that are under way."""
        self.end()
        for thread in self._threads:
            thread.join()
        self._deliverer.close()

    def _run(self) -> None:
        next_tidy = time.monotonic() + _FIRST_TIDY
        while not self._ending.wait(self._look_every):
            self._survive(self._deliverer.start_due)
            if time.monotonic() >= next_tidy:
                next_tidy = time.monotonic() + _FIRST_TIDY
                self._survive(lambda: tidy(self._registry))

    def _care(self) -> None:
        while not self._ending.wait(_FIRST_TIDY):
            self._survive(lambda: collect(self._registry, progress=self._go_on))
            self._survive(self._scrub)

    def _scrub(self) -> None:
        """Read for a while, what was read longest ago."""
        end = time.monotonic() + _FIRST_TIDY
        while time.monotonic() < end and not self._ending.is_set():
            found = self._registry.scrub(progress=self._go_on)
            if found is None:
                return
            for damage in found.damage:
                _log.error(json.dumps({"event": "damage", **asdict(damage)}))

    def _go_on(self, _what: str, _done: int, _total: int) -> None:
        if self._ending.is_set():
            raise _Ended

    def _survive(self, work: Callable[[], object]) -> None:
        try:
            work()
            self._told = ""
        except _Ended:
            pass
        except AdaptersError as error:  # the database or the store is away for a while
            if error.message != self._told:
                self._told = error.message
                _log.warning(json.dumps({"event": "upkeep.failed", "error": error.message}))
        except Exception:
            _log.exception("unexpected error in the upkeep")
