"""How sure a worker is that nothing has changed: the one bound on the age of everything that it keeps in mind.

Callers and answers are kept until the registry's log tells of something that may have made them wrong. A worker asks
the log at most four times a second while requests come, never when none do; one question serves all who wait. Nothing
that is kept is used when the last question was asked more than BOUND ago, or when the mark of the machine's own
commits is another one than before it: then a request waits for the answer to a new question. So

- on one machine a worker never answers with less than what was acknowledged before it was asked;
- across machines it is at most BOUND behind, however slow the question was, and whatever the network does to it;
- while the database can't be reached, everything is refused (503) once BOUND has passed.

This room knows neither requests nor what is kept.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from registry.domain.errors import DatabaseFailure
from registry.service import Registry
from registry.service.watching import News
from registry.sql.changes import Mark
from registry.sql.events import Place

BOUND = 0.75  # seconds that may pass between asking the log and using what is kept
ASK_EVERY = 0.25  # seconds after which the log is asked again while nobody waits for it
ANSWERED_WITHIN = 5.0  # seconds, or the database counts as out of reach


class Freshness:
    """Of one worker, on its event loop. `tell` is called with all news before anybody who waits goes on."""

    def __init__(
        self, registry: Registry, tell: Callable[[News], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._registry = registry
        self._changes = registry.changes
        self._tell = tell
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="freshness")
        self._place: Place | None = None
        self._mark: Mark | None = None
        self._asked_at = float("-inf")
        self._question: asyncio.Task[None] | None = None

    def holds(self) -> bool:
        """Whether what is kept may be used now; asks ahead of time, so that seldom anybody waits."""
        age = self._clock() - self._asked_at
        if age > BOUND:
            return False
        mark = self._changes.mark()
        if mark is None or mark != self._mark:
            return False
        if age > ASK_EVERY:
            self._ask()
        return True

    async def ensure(self) -> None:
        """Wait until what is kept is right as of this call. Raises DatabaseFailure."""
        if self.holds():
            return
        called_at = self._clock()
        while True:
            # A question that was under way when this was called may have missed what was acknowledged by then.
            await asyncio.shield(self._ask())
            if self._asked_at >= called_at or self.holds():
                return

    async def close(self) -> None:
        """Ask no more."""
        if self._question is not None:
            await asyncio.wait({self._question})
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> asyncio.Task[None]:
        """The question that is under way, or a new one."""
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._put_question())
            self._question.add_done_callback(_seen)
        return self._question

    async def _put_question(self) -> None:
        asked_at, mark = self._clock(), self._changes.mark()  # before it is asked: what comes after counts as unseen
        asked = asyncio.get_running_loop().run_in_executor(self._thread, self._registry.news, self._place)
        try:
            news = await asyncio.wait_for(asked, ANSWERED_WITHIN)
        except TimeoutError:
            raise DatabaseFailure("it did not answer in time") from None
        if news.place != self._place:
            self._tell(news)
        self._place, self._mark, self._asked_at = news.place, mark, asked_at


def _seen(question: asyncio.Task[None]) -> None:
    """Whoever waits gets the error; a question that nobody waited for is asked again."""
    if not question.cancelled():
        question.exception()
