"""Verifying uploads, and making files of xorbs, beside the requests: what takes long is answered before it is done."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

from registry.domain.errors import AdaptersError
from registry.service import Registry
from registry.service.arrivals import Arrival
from registry.service.completion import Stopped

AT_ONCE = 64  # uploads that a worker reads, each with one or two MiB in memory
PATIENCE = 3.0  # seconds that a request waits; a gigabyte takes about as long
T = TypeVar("T")
_log = logging.getLogger("adapters.http")


class Verifier:
    """The threads of one worker that verify uploads. Those that are closed leave the rest to the next one."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="verify")
        self._closing = threading.Event()

    async def complete(self, registry: Registry, upload_id: str) -> Arrival:
        """Complete an upload; after a while how far that is. Raises what `complete_upload` raises by then."""
        verifying = self._threads.submit(registry.complete_upload, upload_id, stopping=self._closing.is_set)
        waiting = _watched(verifying)
        done, _ = await asyncio.wait({waiting}, timeout=PATIENCE)
        if not done:
            return await run_in_threadpool(registry.upload, upload_id)
        try:
            return waiting.result()
        except Stopped:
            return await run_in_threadpool(registry.upload, upload_id)

    def begin(self, work: Callable[[Callable[[], bool]], None]) -> asyncio.Future[None]:
        """Begin something that goes on when nobody waits for it; it is told how to see that it has to stop."""
        return _watched(self._threads.submit(work, self._closing.is_set))

    def close(self) -> None:
        """Stop verifying, and wait until nobody does."""
        self._closing.set()
        self._threads.shutdown(cancel_futures=True)


def _watched(running: "Future[T]") -> asyncio.Future[T]:
    running.add_done_callback(_tell_of_the_unforeseen)
    waiting = asyncio.wrap_future(running)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked at it
    return waiting


def _tell_of_the_unforeseen(verifying: "Future[Any]") -> None:
    """The answer may be given by now; what is foreseen is kept with the upload."""
    if verifying.cancelled():
        return
    error = verifying.exception()
    if error is not None and not isinstance(error, AdaptersError | Stopped):
        _log.error("verifying an upload failed", exc_info=error)
