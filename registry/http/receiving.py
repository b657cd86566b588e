"""Bodies that are written where they belong as they come, and never held."""

import asyncio
from collections.abc import AsyncIterator, Callable

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

WRITTEN_AT_ONCE = 128 << 10  # bytes
SILENCE = 60.0  # seconds without a byte, after which a body is given up


async def receive(chunks: AsyncIterator[bytes], write: Callable[[bytes], object]) -> None:
    """Write a body as it comes. A thread is only used while something is written: slow clients hold none.

    Raises HTTPException 408 when nothing comes any more.
    """
    held: list[bytes] = []
    count = 0
    async for chunk in _unless_silent(chunks):
        held.append(chunk)
        count += len(chunk)
        if count >= WRITTEN_AT_ONCE:
            await run_in_threadpool(write, b"".join(held))
            held, count = [], 0
    await run_in_threadpool(write, b"".join(held))


async def _unless_silent(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(SILENCE):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise HTTPException(408, f"no byte came for {SILENCE:.0f} seconds; send it again") from None
        yield chunk
