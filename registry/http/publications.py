"""Publishing beside the requests: what takes long to check is answered before it is done, and asked for again.

Whoever sends the same request again, under the same key, waits for the same publication. Another worker, which knows
nothing of it, checks once more; only one of them is kept, and both are answered the same.
"""

import asyncio
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from registry.domain.errors import Failure
from registry.service import Registry
from registry.service.publishing import Submission

AT_ONCE = 8  # publications that a worker checks, each with a few MiB in memory
PATIENCE = 3.0  # seconds that a request waits
_MOST = 1000  # publications that nobody asks for any more

Document = dict[str, Any]


@dataclass(slots=True)
class Running:
    """A publication under way: bytes done, and of how many."""

    closing: threading.Event
    done: int = 0
    of: int = 0
    result: "Future[Document]" = field(default_factory=Future)

    def note(self, _what: str, done: int, of: int) -> None:
        if self.closing.is_set():
            raise Failure("the server is being stopped: send the same request again")
        self.done, self.of = done, of


class Publications:
    """The threads of one worker that publish. For its event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="publish")
        self._closing = threading.Event()
        self._running: dict[tuple[str, str, str], Running] = {}

    async def publish(
        self, registry: Registry, submission: Submission, *, key: str, request: str
    ) -> Document | tuple[int, int]:
        """What comes of a submission (see `publish_once`), or how many bytes of how many have been looked at."""
        name = (registry.actor, key, request)
        if (running := self._running.get(name)) is None:
            running = self._start(registry, submission, key=key, request=request)
            self._forget_some()
            self._running[name] = running
        waiting = asyncio.wrap_future(running.result)
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked at it
        done, _ = await asyncio.wait({waiting}, timeout=PATIENCE)
        if not done:
            return running.done, running.of
        self._running.pop(name, None)
        return waiting.result()

    def _start(self, registry: Registry, submission: Submission, *, key: str, request: str) -> Running:
        running = Running(self._closing)
        publish = partial(registry.publish_once, submission, key=key, request=request, progress=running.note)
        running.result = self._threads.submit(publish)
        return running

    def _forget_some(self) -> None:
        ended = [name for name, running in self._running.items() if running.result.done()]
        for name in ended[: max(0, len(self._running) - _MOST)]:
            del self._running[name]

    def close(self) -> None:
        """Stop, and wait until nobody checks."""
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)
